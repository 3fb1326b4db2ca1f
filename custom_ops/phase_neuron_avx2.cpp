#define ONNX_SNN_KERNELS kPhaseNeuronAvx2
#include "phase_neuron_kernel.inl"
