// The CPU kernels of a neuron, one for each element type. A Run<T> tells them of a call: `steps`
// rows of `neurons` values of type T each, and what else the neuron needs.
#pragma once

#include <cstdint>

#include "kernel_types.h"

namespace onnx_snn {

// Runs neurons [begin, end) over all steps. `stream`: write spikes past the cache.
template <typename Run>
using NeuronKernel = void (*)(const Run& run, int64_t begin, int64_t end, bool stream);

template <template <typename> class Run>
struct NeuronKernels {
  NeuronKernel<Run<float>> for_float;
  NeuronKernel<Run<Half>> for_half;
  NeuronKernel<Run<double>> for_double;
};

}  // namespace onnx_snn
