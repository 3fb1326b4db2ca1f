#include "if_neuron_cpu.h"

namespace onnx_snn {

const IFNeuronKernels& if_neuron_kernels(InstructionSet set) {
#ifdef ONNX_SNN_X86_KERNELS
  if (set >= InstructionSet::kAvx512) return kIFNeuronAvx512;
  if (set == InstructionSet::kAvx2) return kIFNeuronAvx2;
#endif
  static_cast<void>(set);
  return kIFNeuronPlain;
}

}  // namespace onnx_snn
