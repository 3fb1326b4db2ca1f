#include "if_neuron_cuda.inl"

#include "if_neuron_cuda.h"

namespace onnx_snn {

void run_if_neuron_cuda(const IFNeuronRun<float>& run, void* stream) { run_cuda(run, stream); }
void run_if_neuron_cuda(const IFNeuronRun<Half>& run, void* stream) { run_cuda(run, stream); }
void run_if_neuron_cuda(const IFNeuronRun<double>& run, void* stream) { run_cuda(run, stream); }

}  // namespace onnx_snn
