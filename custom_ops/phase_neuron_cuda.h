// PhaseNeuron on CUDA.
#pragma once

#include "phase_neuron.h"

namespace onnx_snn {

// Queues the kernel on a cudaStream_t; all pointers but none of the attributes are on the device.
// Throws std::runtime_error where the launch fails.
void run_phase_neuron_cuda(const PhaseNeuronRun<float>& run, void* stream);
void run_phase_neuron_cuda(const PhaseNeuronRun<Half>& run, void* stream);
void run_phase_neuron_cuda(const PhaseNeuronRun<double>& run, void* stream);

}  // namespace onnx_snn
