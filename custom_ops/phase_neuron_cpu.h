// PhaseNeuron on the CPU: one kernel per instruction set, chosen at run time.
#pragma once

#include "cpu_features.h"
#include "neuron_kernels.h"
#include "phase_neuron.h"

namespace onnx_snn {

using PhaseNeuronKernels = NeuronKernels<PhaseNeuronRun>;

extern const PhaseNeuronKernels kPhaseNeuronPlain;
extern const PhaseNeuronKernels kPhaseNeuronAvx2;
extern const PhaseNeuronKernels kPhaseNeuronAvx512;

const PhaseNeuronKernels& phase_neuron_kernels(InstructionSet set);

}  // namespace onnx_snn
