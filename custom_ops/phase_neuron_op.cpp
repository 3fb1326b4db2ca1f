#include "phase_neuron_op.h"

#include <string>

#include "folded_time.h"
#include "neuron_op.h"
#include "phase_neuron.h"
#include "phase_neuron_cpu.h"
#ifdef ONNX_SNN_CUDA
#include "phase_neuron_cuda.h"
#endif

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

struct PhaseNeuronOp {
  static constexpr const char* name = "PhaseNeuron";
  static constexpr const char* full_name = "onnx_snn.PhaseNeuron";
  static constexpr size_t kT = 1, inputs = 2, outputs = 1;
  using Attributes = PhaseNeuronAttributes;
  template <typename T>
  using Run = PhaseNeuronRun<T>;

  static Attributes read_attributes(const Api& api, const KernelInfo* info) {
    Attributes a;
    a.constant_input = read_constant_input(api, info);
    a.base = get_attribute(api, info, "base", a.base);
    a.v_threshold = read_threshold(api, info, a.v_threshold);
    a.v_init = read_v_init(api, info, a.v_init);
    if (a.base != 1 && a.base != 2) refuse("base must be 1 or 2, not " + std::to_string(a.base));
    return a;
  }

  template <typename T>
  static Run<T> prepare(const Api& api, KernelContext* context, const Attributes& attributes) {
    const Input x = get_input(api, context, kX);
    const int64_t steps = read_steps(get_input(api, context, kT));
    if (steps > attributes.most_steps()) {
      refuse("T must be " + std::to_string(attributes.most_steps()) + " or less with base 2, not " +
             std::to_string(steps));
    }
    const Shape state = state_shape(x.shape, steps, attributes.constant_input);
    const Shape spikes = spike_shape(state, steps);

    Run<T> run;
    run.attributes = attributes;
    run.steps = steps;
    run.neurons = element_count(state);
    run.x = static_cast<const T*>(x.data);
    run.s = static_cast<T*>(get_output(api, context, kS, spikes));
    return run;
  }

  static const PhaseNeuronKernels& kernels(InstructionSet set) { return phase_neuron_kernels(set); }

#ifdef ONNX_SNN_CUDA
  template <typename T>
  static void run_cuda(const Run<T>& run, void* stream) {
    run_phase_neuron_cuda(run, stream);
  }
#endif
};

}  // namespace

std::vector<const ort_abi::CustomOp*> phase_neuron_ops() { return neuron_ops<PhaseNeuronOp>(); }

}  // namespace onnx_snn
