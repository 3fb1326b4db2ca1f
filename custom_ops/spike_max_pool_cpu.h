// SpikeMaxPool on the CPU.
#pragma once

#include "neuron_cpu.h"
#include "spike_max_pool.h"

namespace onnx_snn {

void run_spike_max_pool_cpu(const SpikeMaxPoolRun<float>& run, const Parallel& parallel);
void run_spike_max_pool_cpu(const SpikeMaxPoolRun<Half>& run, const Parallel& parallel);
void run_spike_max_pool_cpu(const SpikeMaxPoolRun<double>& run, const Parallel& parallel);

}  // namespace onnx_snn
