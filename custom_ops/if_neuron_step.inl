// One neuron, one step: the formula of if_neuron.h, shared by the CPU and the CUDA kernels. It has
// no branches, so that a loop over it vectorises.
#include <math.h>

#include "if_neuron.h"

namespace onnx_snn {
namespace {

template <typename State>
struct Limits {
  State threshold, spike_min, spike_max, count_min, count_max;
};

template <typename State>
Limits<State> limits_of(const IFNeuronAttributes& a) {
  return {static_cast<State>(a.v_threshold), static_cast<State>(a.spike_min),
          static_cast<State>(a.spike_max), static_cast<State>(a.count_min),
          a.count_max < 0 ? static_cast<State>(INFINITY) : static_cast<State>(a.count_max)};
}

template <typename State>
State initial_potential(const IFNeuronAttributes& a) {
  return static_cast<State>(a.v_init) * static_cast<State>(a.v_threshold);
}

#if defined(__SSE2__) && !defined(__SSE4_1__) && !defined(__CUDACC__)
// Without an instruction for it, floor would be a call for each value. Adding and taking off 2^23
// (2^52 for double) rounds to an integer; values from there on, and NaN, are left as they are.
template <typename State>
inline State floor_with(State value, State magic) {
  const State magnitude = value < State(0) ? -value : value;
  const State rounded = (magnitude + magic) - magic;
  const State nearest = value < State(0) ? -rounded : rounded;
  const State below = nearest > value ? nearest - State(1) : nearest;
  return magnitude < magic ? below : value;
}
inline float floor_of(float value) { return floor_with(value, 8388608.0f); }
inline double floor_of(double value) { return floor_with(value, 4503599627370496.0); }
#else
ONNX_SNN_INLINE float floor_of(float value) { return floorf(value); }
ONNX_SNN_INLINE double floor_of(double value) { return floor(value); }
#endif

enum class Fire {
  kBinary,   // spikes 0 and 1: V >= threshold
  kUnit,     // any spikes and limits, threshold 1: no division
  kDivided,  // any spikes and limits, any threshold
};

// Takes a current, updates the neuron and returns its spike. `n` is used only with Count.
template <Fire fire, bool ToZero, bool Count, typename State>
ONNX_SNN_INLINE State step(State current, State* v, State* n, const Limits<State>& limits) {
  const State potential = *v + current;
  if (fire == Fire::kBinary) {
    const bool fires = potential >= limits.threshold;
    const State left = ToZero ? State(0) : potential - limits.threshold;
    const State spike = fires ? State(1) : State(0);
    *v = fires ? left : potential;
    if (Count) *n += spike;
    return spike;
  }
  State lowest = limits.spike_min;
  State highest = limits.spike_max;
  if (Count) {
    const State down = limits.count_min - *n;
    const State up = limits.count_max - *n;
    lowest = down > lowest ? down : lowest;
    lowest = lowest < State(0) ? lowest : State(0);
    highest = up < highest ? up : highest;
    highest = highest > State(0) ? highest : State(0);
  }
  // These comparisons send a NaN to the lowest spike.
  State spike = floor_of(fire == Fire::kDivided ? potential / limits.threshold : potential);
  spike = spike > lowest ? spike : lowest;
  spike = spike < highest ? spike : highest;
  const State left = potential - spike * limits.threshold;
  *v = ToZero ? (spike != State(0) ? State(0) : potential) : left;
  if (Count) *n += spike;
  return spike;
}

}  // namespace
}  // namespace onnx_snn
