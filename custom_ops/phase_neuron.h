// The neuron of two-phase and radix coding, free of onnxruntime: what the CPU and CUDA kernels are
// told.
//
// All input is integrated first, then T spikes are emitted, those of the largest weight first:
//     V = 0;                        at every step  V = base * V + x_t
//     V = V + v_init * v_threshold
//     w = v_threshold * base^(T-1-t)    at step t  s = [V >= w],  V = V - w where s = 1
// A NaN membrane emits nothing.
#pragma once

#include <cstdint>

#include "kernel_types.h"

namespace onnx_snn {

struct PhaseNeuronAttributes {
  bool constant_input = false;
  int64_t base = 2;  // 2: radix coding; 1: two-phase coding, all spikes weigh the same
  float v_threshold = 1.0f;
  float v_init = 0.5f;  // in units of the threshold

  // No type holds more bits than spikes of radix coding in so many steps, and all weights are
  // exact.
  int64_t most_steps() const { return base == 2 ? 64 : INT64_MAX; }
};

// One call: `steps` rows of `neurons` values each.
template <typename T>
struct PhaseNeuronRun {
  PhaseNeuronAttributes attributes;
  int64_t steps;
  int64_t neurons;
  const T* x;  // [steps, neurons], or [neurons] when the input is constant
  T* s;        // [steps, neurons]
};

}  // namespace onnx_snn
