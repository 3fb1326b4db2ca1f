// IFNeuron and AddIFNeuron on CUDA.
#pragma once

#include "if_neuron.h"

namespace onnx_snn {

// Queues the kernel on a cudaStream_t; all pointers but none of the attributes are on the device.
// Throws std::runtime_error where the launch fails.
void run_if_neuron_cuda(const IFNeuronRun<float>& run, void* stream);
void run_if_neuron_cuda(const IFNeuronRun<Half>& run, void* stream);
void run_if_neuron_cuda(const IFNeuronRun<double>& run, void* stream);
void run_add_if_neuron_cuda(const AddIFNeuronRun<float>& run, void* stream);
void run_add_if_neuron_cuda(const AddIFNeuronRun<Half>& run, void* stream);
void run_add_if_neuron_cuda(const AddIFNeuronRun<double>& run, void* stream);

}  // namespace onnx_snn
