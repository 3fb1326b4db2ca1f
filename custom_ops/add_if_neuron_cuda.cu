#include "if_neuron_cuda.h"
#include "if_neuron_cuda.inl"

namespace onnx_snn {

void run_add_if_neuron_cuda(const AddIFNeuronRun<float>& run, void* stream) {
  run_cuda(run, stream);
}
void run_add_if_neuron_cuda(const AddIFNeuronRun<Half>& run, void* stream) {
  run_cuda(run, stream);
}
void run_add_if_neuron_cuda(const AddIFNeuronRun<double>& run, void* stream) {
  run_cuda(run, stream);
}

}  // namespace onnx_snn
