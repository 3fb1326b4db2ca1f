// IFNeuron, AddIFNeuron and EventIFNeuron on the CPU: kernels of each instruction set, chosen at
// run time.
#pragma once

#include "cpu_features.h"
#include "if_neuron.h"
#include "neuron_kernels.h"

namespace onnx_snn {

struct IFNeuronKernels : NeuronKernels<IFNeuronRun> {
  NeuronKernels<AddIFNeuronRun> with_shortcut;
  NeuronKernel<EventIFNeuronRun> for_events;
};

extern const IFNeuronKernels kIFNeuronPlain;
extern const IFNeuronKernels kIFNeuronAvx2;
extern const IFNeuronKernels kIFNeuronAvx512;

const IFNeuronKernels& if_neuron_kernels(InstructionSet set);

}  // namespace onnx_snn
