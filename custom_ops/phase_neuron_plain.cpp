#define ONNX_SNN_KERNELS kPhaseNeuronPlain
#include "phase_neuron_kernel.inl"
