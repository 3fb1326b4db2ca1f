#define ONNX_SNN_KERNELS kPhaseNeuronAvx512
#include "phase_neuron_kernel.inl"
