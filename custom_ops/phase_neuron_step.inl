// One neuron, one step of each phase: the formulas of phase_neuron.h, shared by the CPU and the
// CUDA kernels. They have no branches, so that a loop over them vectorises.
#include "phase_neuron.h"

namespace onnx_snn {
namespace {

// The numbers of a call. All powers of the base are exact.
template <typename State>
struct Phases {
  State base, threshold, start;
  State highest;  // base^(T-1), that of the first spike
  State lower;    // from one spike's power of the base to the next one's
};

template <typename State>
Phases<State> phases_of(const PhaseNeuronAttributes& a, int64_t steps) {
  const bool radix = a.base == 2;
  const State threshold = static_cast<State>(a.v_threshold);
  return {static_cast<State>(a.base), threshold, static_cast<State>(a.v_init) * threshold,
          radix ? static_cast<State>(uint64_t{1} << (steps - 1)) : State(1),
          radix ? State(0.5) : State(1)};
}

template <typename State>
ONNX_SNN_INLINE State integrate(State v, State current, State base) {
  return base * v + current;
}

// Updates the neuron and returns its spike.
template <typename State>
ONNX_SNN_INLINE State emit(State* v, State weight) {
  const bool fires = *v >= weight;
  const State left = *v - weight;
  *v = fires ? left : *v;
  return fires ? State(1) : State(0);
}

}  // namespace
}  // namespace onnx_snn
