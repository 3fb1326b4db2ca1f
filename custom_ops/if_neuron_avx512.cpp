#define ONNX_SNN_KERNELS kIFNeuronAvx512
#include "if_neuron_kernel.inl"
