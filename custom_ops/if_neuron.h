// The integrate-and-fire neuron, free of onnxruntime: what the CPU and CUDA kernels are told.
//
// At every step, with n the spikes counted so far:
//     V += x_t
//     s  = floor(V / v_threshold), limited to [lowest, highest]
//     V -= s * v_threshold                       (reset to zero: V = 0 where s != 0)
//     n += s
// where lowest  = min(max(spike_min, count_min - n), 0)
//       highest = max(min(spike_max, count_max - n), 0)   (spike_max when count_max is -1).
// A count limit thus forbids spikes and never forces one. A NaN membrane emits the lowest spike
// allowed and stays NaN.
#pragma once

#include <cstdint>

#include "kernel_types.h"

namespace onnx_snn {

struct IFNeuronAttributes {
  bool constant_input = false;
  float v_threshold = 1.0f;
  float v_init = 0.5f;  // in units of the threshold
  bool reset_to_zero = false;
  int64_t spike_min = 0;
  int64_t spike_max = 1;
  int64_t count_min = 0;
  int64_t count_max = -1;  // -1: no limit

  // The limits in force depend on the spikes counted so far.
  bool limits_count() const { return spike_min < 0 || count_max >= 0; }
  // The plain neuron: s = 1 where V >= v_threshold. IEEE division rounds monotonically and
  // pred(threshold) / threshold < 1 in every binary format, so this equals the floor formula.
  bool is_binary() const { return spike_min == 0 && spike_max == 1 && count_max < 0; }
};

// One call: `steps` rows of `neurons` values each, spikes of type S.
template <typename T, typename S>
struct IFNeuronCall {
  IFNeuronAttributes attributes;
  int64_t steps;
  int64_t neurons;
  const T* x;  // [steps, neurons], or [neurons] when the input is constant
  const T* v;  // [neurons], one value when v_is_scalar, or null: v_init * v_threshold
  const T* n;  // [neurons], one value when n_is_scalar, or null: 0
  bool v_is_scalar;
  bool n_is_scalar;
  S* s;       // [steps, neurons]
  T* v_next;  // [neurons] or null
  T* n_next;  // [neurons] or null

  bool tracks_count() const { return n_next != nullptr || attributes.limits_count(); }
};

template <typename T>
struct IFNeuronRun : IFNeuronCall<T, T> {};

// AddIFNeuron: the currents of a shortcut, times a factor, are added to x.
template <typename T>
struct AddIFNeuronRun : IFNeuronRun<T> {
  const T* r;        // [steps, neurons]
  const T* factors;  // [channels]
  int64_t channels;  // neuron i is of channel i / channel_size % channels
  int64_t channel_size;
};

// Spikes are events.
struct EventIFNeuronRun : IFNeuronCall<float, int8_t> {};

}  // namespace onnx_snn
