#define ONNX_SNN_KERNELS kIFNeuronAvx2
#include "if_neuron_kernel.inl"
