#include "if_neuron_op.h"

#include <string>

#include "folded_time.h"
#include "if_neuron.h"
#include "if_neuron_cpu.h"
#include "neuron_op.h"
#ifdef ONNX_SNN_CUDA
#include "if_neuron_cuda.h"
#endif

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

constexpr size_t kVNext = 1, kNNext = 2;  // outputs

// What all have alike; their membranes and counts follow T.
template <typename Op, typename Run>
Run prepare_run(const Api& api, KernelContext* context, const IFNeuronAttributes& attributes) {
  const Input x = get_input(api, context, kX);
  const int64_t steps = read_steps(get_input(api, context, Op::kT));
  const Input v = get_input(api, context, Op::kT + 1);
  const Input n = get_input(api, context, Op::kT + 2);
  const Shape state = state_shape(x.shape, steps, attributes.constant_input);
  const Shape spikes = spike_shape(state, steps);
  check_state("v", v, state, x.shape, steps);
  check_state("n", n, state, x.shape, steps);

  Run run;
  run.attributes = attributes;
  run.steps = steps;
  run.neurons = element_count(state);
  run.x = static_cast<decltype(run.x)>(x.data);
  run.v = static_cast<decltype(run.v)>(v.data);
  run.n = static_cast<decltype(run.n)>(n.data);
  run.v_is_scalar = v.shape.empty();
  run.n_is_scalar = n.shape.empty();
  run.s = static_cast<decltype(run.s)>(get_output(api, context, kS, spikes));
  run.v_next = static_cast<decltype(run.v_next)>(get_output(api, context, kVNext, state));
  run.n_next = static_cast<decltype(run.n_next)>(get_output(api, context, kNNext, state));
  return run;
}

struct IFNeuronOp {
  static constexpr const char* name = "IFNeuron";
  static constexpr const char* full_name = "onnx_snn.IFNeuron";
  static constexpr size_t kT = 1, inputs = 4, outputs = 3;
  using Attributes = IFNeuronAttributes;
  template <typename T>
  using Run = IFNeuronRun<T>;

  static Attributes read_attributes(const Api& api, const KernelInfo* info) {
    Attributes a = read_if_neuron_attributes(api, info);
    a.constant_input = read_constant_input(api, info);
    return a;
  }

  template <typename T>
  static Run<T> prepare(const Api& api, KernelContext* context, const Attributes& attributes) {
    return prepare_run<IFNeuronOp, Run<T>>(api, context, attributes);
  }

  static const IFNeuronKernels& kernels(InstructionSet set) { return if_neuron_kernels(set); }

#ifdef ONNX_SNN_CUDA
  template <typename T>
  static void run_cuda(const Run<T>& run, void* stream) {
    run_if_neuron_cuda(run, stream);
  }
#endif
};

struct AddIFNeuronOp {
  static constexpr const char* name = "AddIFNeuron";
  static constexpr const char* full_name = "onnx_snn.AddIFNeuron";
  static constexpr size_t kShortcut = 1, kFactors = 2, kT = 3, inputs = 6, outputs = 3;
  using Attributes = IFNeuronAttributes;
  template <typename T>
  using Run = AddIFNeuronRun<T>;

  static Attributes read_attributes(const Api& api, const KernelInfo* info) {
    return read_if_neuron_attributes(api, info);
  }

  template <typename T>
  static Run<T> prepare(const Api& api, KernelContext* context, const Attributes& attributes) {
    const Shape x = get_input(api, context, kX).shape;
    const Input r = get_input(api, context, kShortcut);
    const Input factors = get_input(api, context, kFactors);
    if (r.shape != x) {
      refuse("r has shape " + to_string(r.shape) + ", but that of x, " + to_string(x) +
             ", is needed");
    }
    const bool by_channel = factors.shape.size() == 1 && x.size() > 1 && factors.shape[0] == x[1];
    if (!factors.shape.empty() && !by_channel) {
      refuse("R must be one value, or one for each channel (axis 1) of x " + to_string(x) +
             ", not a tensor of shape " + to_string(factors.shape));
    }
    auto run = prepare_run<AddIFNeuronOp, Run<T>>(api, context, attributes);
    run.r = static_cast<const T*>(r.data);
    run.factors = static_cast<const T*>(factors.data);
    run.channels = by_channel ? x[1] : 1;
    run.channel_size = by_channel ? element_count(Shape(x.begin() + 2, x.end())) : 1;
    return run;
  }

  static const NeuronKernels<Run>& kernels(InstructionSet set) {
    return if_neuron_kernels(set).with_shortcut;
  }

#ifdef ONNX_SNN_CUDA
  template <typename T>
  static void run_cuda(const Run<T>& run, void* stream) {
    run_add_if_neuron_cuda(run, stream);
  }
#endif
};

struct EventIFNeuronOp {
  static constexpr const char* name = "EventIFNeuron";
  static constexpr const char* full_name = "onnx_snn.EventIFNeuron";
  static constexpr size_t kT = 1, inputs = 4, outputs = 3;

  static IFNeuronAttributes read_attributes(const Api& api, const KernelInfo* info) {
    IFNeuronAttributes a = read_event_neuron_attributes(api, info);
    a.constant_input = read_constant_input(api, info);
    return a;
  }
};

template <typename Op, typename T>
struct EventKernel {
  const Api& api;
  IFNeuronAttributes attributes;
  NeuronKernel<EventIFNeuronRun> kernel;

  EventKernel(const Api& api_table, const IFNeuronAttributes& a)
      : api(api_table),
        attributes(a),
        kernel(if_neuron_kernels(required_instruction_set()).for_events) {}

  void compute(KernelContext* context) const {
    const auto run = prepare_run<Op, EventIFNeuronRun>(api, context, attributes);
    run_on_cpu(kernel, run, SessionPool(api, context));
  }

  static constexpr const char* provider = nullptr;  // the CPU
};

struct EventCallbacks : Callbacks<EventKernel, EventIFNeuronOp, float> {
  static ort_abi::ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t index) {
    return index == kS ? ort_abi::kInt8 : ort_abi::kFloat;
  }
};

}  // namespace

IFNeuronAttributes read_if_neuron_attributes(const Api& api, const KernelInfo* info) {
  IFNeuronAttributes a;
  const std::string reset = get_attribute(api, info, "reset", std::string("subtract"));
  a.reset_to_zero = reset == "zero";
  a.v_threshold = read_threshold(api, info, a.v_threshold);
  a.v_init = read_v_init(api, info, a.v_init);
  a.spike_min = get_attribute(api, info, "spike_min", a.spike_min);
  a.spike_max = get_attribute(api, info, "spike_max", a.spike_max);
  a.count_min = get_attribute(api, info, "count_min", a.count_min);
  a.count_max = get_attribute(api, info, "count_max", a.count_max);

  if (reset != "subtract" && reset != "zero") {
    refuse("reset must be \"subtract\" or \"zero\", not \"" + reset + "\"");
  }
  if (a.spike_min > 0) refuse("spike_min must be 0 or less, not " + std::to_string(a.spike_min));
  if (a.spike_max < 1) refuse("spike_max must be 1 or more, not " + std::to_string(a.spike_max));
  if (a.count_min > 0) refuse("count_min must be 0 or less, not " + std::to_string(a.count_min));
  if (a.count_max < -1) {
    refuse("count_max must be 0 or more, or -1 for no limit, not " + std::to_string(a.count_max));
  }
  return a;
}

IFNeuronAttributes read_event_neuron_attributes(const Api& api, const KernelInfo* info) {
  const IFNeuronAttributes a = read_if_neuron_attributes(api, info);
  if (a.spike_min < -128 || a.spike_max > 127) {
    refuse("spikes of 8 bits reach from -128 to 127, not from " + std::to_string(a.spike_min) +
           " to " + std::to_string(a.spike_max));
  }
  return a;
}

const ort_abi::CustomOp* event_if_neuron_op() { return custom_op<EventCallbacks>(); }

std::vector<const ort_abi::CustomOp*> if_neuron_ops() { return neuron_ops<IFNeuronOp>(); }
std::vector<const ort_abi::CustomOp*> add_if_neuron_ops() { return neuron_ops<AddIFNeuronOp>(); }

}  // namespace onnx_snn
