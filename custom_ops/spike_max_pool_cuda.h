// SpikeMaxPool on CUDA.
#pragma once

#include "spike_max_pool.h"

namespace onnx_snn {

// Queues the kernels on a cudaStream_t; all pointers but none of the sizes are on the device.
// Throws std::runtime_error where a launch fails.
void run_spike_max_pool_cuda(const SpikeMaxPoolRun<float>& run, void* stream);
void run_spike_max_pool_cuda(const SpikeMaxPoolRun<Half>& run, void* stream);
void run_spike_max_pool_cuda(const SpikeMaxPoolRun<double>& run, void* stream);

}  // namespace onnx_snn
