#define ONNX_SNN_KERNELS kIFNeuronPlain
#include "if_neuron_kernel.inl"
