#include "phase_neuron_cpu.h"

namespace onnx_snn {

const PhaseNeuronKernels& phase_neuron_kernels(InstructionSet set) {
#ifdef ONNX_SNN_X86_KERNELS
  if (set >= InstructionSet::kAvx512) return kPhaseNeuronAvx512;
  if (set == InstructionSet::kAvx2) return kPhaseNeuronAvx2;
#endif
  static_cast<void>(set);
  return kPhaseNeuronPlain;
}

}  // namespace onnx_snn
