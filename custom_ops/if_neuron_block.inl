// A row of neurons, one step: the loop over if_neuron_step.inl, and the choice of it. Included by
// the CPU kernels, with internal linkage: see if_neuron_kernel.inl.
#include <stdint.h>

#include "if_neuron_step.inl"

namespace onnx_snn {
namespace {

// A spike as it is written; via int32, for which there are vectors.
template <typename Spike>
struct SpikeOf {
  template <typename State>
  static Spike from(State spike) {
    return spike;
  }
};
template <>
struct SpikeOf<int8_t> {
  static int8_t from(float spike) { return static_cast<int8_t>(static_cast<int32_t>(spike)); }
};

template <typename State, typename Spike>
using StepBlock = void (*)(const State* x, State* v, State* n, Spike* s, int64_t size,
                           const Limits<State>& limits);

template <Fire fire, bool ToZero, bool Count, typename State, typename Spike>
void step_block(const State* x, State* v, State* n, Spike* s, int64_t size,
                const Limits<State>& limits) {
  const Limits<State> local = limits;  // a copy that no store through s can change
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    s[i] = SpikeOf<Spike>::from(step<fire, ToZero, Count>(x[i], v + i, n + i, local));
  }
}

template <typename State, typename Spike, bool ToZero, bool Count>
StepBlock<State, Spike> choose_step(const IFNeuronAttributes& a) {
  if (a.is_binary()) return step_block<Fire::kBinary, ToZero, Count, State, Spike>;
  if (a.v_threshold == 1.0f) return step_block<Fire::kUnit, ToZero, Count, State, Spike>;
  return step_block<Fire::kDivided, ToZero, Count, State, Spike>;
}

template <typename State, typename Spike>
StepBlock<State, Spike> choose_step(const IFNeuronAttributes& a, bool count) {
  if (a.reset_to_zero) {
    return count ? choose_step<State, Spike, true, true>(a)
                 : choose_step<State, Spike, true, false>(a);
  }
  return count ? choose_step<State, Spike, false, true>(a)
               : choose_step<State, Spike, false, false>(a);
}

}  // namespace
}  // namespace onnx_snn
