#include "if_neuron_op.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "if_neuron.h"
#include "if_neuron_cpu.h"
#include "tensors.h"
#ifdef ONNX_SNN_CUDA
#include "if_neuron_cuda.h"
#endif

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOp;
using ort_abi::ElementType;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

enum Inputs : size_t { kX, kT, kV, kN, kInputs };
enum Outputs : size_t { kS, kVNext, kNNext, kOutputs };

constexpr const char* kName = "onnx_snn.IFNeuron";

[[noreturn]] void refuse(const std::string& why) { throw InvalidArgument(why); }

IFNeuronAttributes read_attributes(const Api& api, const KernelInfo* info) {
  IFNeuronAttributes a;
  const int64_t constant = get_attribute(api, info, "constant_input", int64_t{0});
  const std::string reset = get_attribute(api, info, "reset", std::string("subtract"));
  a.constant_input = constant == 1;
  a.reset_to_zero = reset == "zero";
  a.v_threshold = get_attribute(api, info, "v_threshold", a.v_threshold);
  a.v_init = get_attribute(api, info, "v_init", a.v_init);
  a.spike_min = get_attribute(api, info, "spike_min", a.spike_min);
  a.spike_max = get_attribute(api, info, "spike_max", a.spike_max);
  a.count_min = get_attribute(api, info, "count_min", a.count_min);
  a.count_max = get_attribute(api, info, "count_max", a.count_max);

  if (constant != 0 && constant != 1) {
    refuse("constant_input must be 0 or 1, not " + std::to_string(constant));
  }
  if (reset != "subtract" && reset != "zero") {
    refuse("reset must be \"subtract\" or \"zero\", not \"" + reset + "\"");
  }
  if (!(a.v_threshold > 0) || !std::isfinite(a.v_threshold)) {
    refuse("v_threshold must be positive and finite, not " + std::to_string(a.v_threshold));
  }
  if (!std::isfinite(a.v_init)) refuse("v_init must be finite, not " + std::to_string(a.v_init));
  if (a.spike_min > 0) refuse("spike_min must be 0 or less, not " + std::to_string(a.spike_min));
  if (a.spike_max < 1) refuse("spike_max must be 1 or more, not " + std::to_string(a.spike_max));
  if (a.count_min > 0) refuse("count_min must be 0 or less, not " + std::to_string(a.count_min));
  if (a.count_max < -1) {
    refuse("count_max must be 0 or more, or -1 for no limit, not " + std::to_string(a.count_max));
  }
  return a;
}

int64_t read_steps(const Input& steps) {
  if (element_count(steps.shape) != 1 || steps.shape.size() > 1) {
    refuse("T must be one value, not a tensor of shape " + to_string(steps.shape));
  }
  const int64_t value = *static_cast<const int64_t*>(steps.data);
  if (value < 1) refuse("T must be 1 or more, not " + std::to_string(value));
  return value;
}

// The shape of the membrane: that of x with T*N rows cut down to N.
Shape state_shape(const Shape& x, int64_t steps, bool constant_input) {
  if (x.empty()) refuse("x must have a leading axis of T*N rows, but it is a scalar");
  Shape shape = x;
  if (constant_input) return shape;
  if (x[0] % steps != 0) {
    refuse("x has " + std::to_string(x[0]) + " rows, which is not a multiple of T = " +
           std::to_string(steps) + " (x shape " + to_string(x) + ")");
  }
  shape[0] = x[0] / steps;
  return shape;
}

Shape spike_shape(const Shape& state, int64_t steps) {
  Shape shape = state;
  if (shape[0] > std::numeric_limits<int64_t>::max() / steps) {
    refuse("T = " + std::to_string(steps) + " is too large for x of shape " + to_string(state));
  }
  shape[0] *= steps;
  return shape;
}

void check_state(const char* name, const Input& state, const Shape& expected, const Shape& x,
                 int64_t steps) {
  if (!state.present || state.shape.empty() || state.shape == expected) return;
  refuse(std::string(name) + " has shape " + to_string(state.shape) + ", but " +
         to_string(expected) + " or a scalar is needed (x shape " + to_string(x) +
         ", T = " + std::to_string(steps) + ")");
}

// All of a call but the place where it runs.
template <typename T>
IFNeuronRun<T> prepare(const Api& api, KernelContext* context,
                       const IFNeuronAttributes& attributes) {
  const Input x = get_input(api, context, kX);
  const int64_t steps = read_steps(get_input(api, context, kT));
  const Input v = get_input(api, context, kV);
  const Input n = get_input(api, context, kN);
  const Shape state = state_shape(x.shape, steps, attributes.constant_input);
  const Shape spikes = spike_shape(state, steps);
  element_count(spikes);
  check_state("v", v, state, x.shape, steps);
  check_state("n", n, state, x.shape, steps);

  IFNeuronRun<T> run;
  run.attributes = attributes;
  run.steps = steps;
  run.neurons = element_count(state);
  run.x = static_cast<const T*>(x.data);
  run.v = static_cast<const T*>(v.data);
  run.n = static_cast<const T*>(n.data);
  run.v_is_scalar = v.shape.empty();
  run.n_is_scalar = n.shape.empty();
  run.s = static_cast<T*>(get_output(api, context, kS, spikes));
  run.v_next = static_cast<T*>(get_output(api, context, kVNext, state));
  run.n_next = static_cast<T*>(get_output(api, context, kNNext, state));
  return run;
}

// Threads come from the session's own pool.
class SessionPool final : public Parallel {
 public:
  SessionPool(const Api& api, const KernelContext* context) : api_(api), context_(context) {}

  void run(ParallelBody body, size_t count, void* context) const override {
    const size_t batches = count;  // each index by itself: a busy core then delays no more than one
    check(api_.call<ort_abi::ParallelFor>(context_, body, count, batches, context));
  }

 private:
  const Api& api_;
  const KernelContext* context_;
};

// The kernels hold attributes only, so one of them may run in any number of threads.
template <typename T>
struct CpuKernel {
  const Api& api;
  IFNeuronAttributes attributes;
  const IFNeuronKernels& kernels;

  CpuKernel(const Api& api_table, const IFNeuronAttributes& a)
      : api(api_table), attributes(a), kernels(if_neuron_kernels(required_instruction_set())) {}

  void compute(KernelContext* context) const {
    run_if_neuron_cpu(kernels, prepare<T>(api, context, attributes), SessionPool(api, context));
  }

  static constexpr const char* provider = nullptr;  // the CPU
};

#ifdef ONNX_SNN_CUDA
template <typename T>
struct CudaKernel {
  const Api& api;
  IFNeuronAttributes attributes;

  CudaKernel(const Api& api_table, const IFNeuronAttributes& a) : api(api_table), attributes(a) {}

  void compute(KernelContext* context) const {
    void* stream = nullptr;
    check(api.call<ort_abi::GetGpuComputeStream>(context, &stream));
    run_if_neuron_cuda(prepare<T>(api, context, attributes), stream);
  }

  static constexpr const char* provider = "CUDAExecutionProvider";
};
#endif

template <typename T>
constexpr ElementType kElementType = ort_abi::kUndefined;
template <>
constexpr ElementType kElementType<float> = ort_abi::kFloat;
template <>
constexpr ElementType kElementType<Half> = ort_abi::kFloat16;
template <>
constexpr ElementType kElementType<double> = ort_abi::kDouble;

// The C callbacks. CreateKernelV2 and KernelComputeV2 are the ones that can report an error.
template <template <typename> class Kernel, typename T>
struct Callbacks {
  using K = Kernel<T>;

  static ort_abi::Status* ORT_ABI_CALL create(const CustomOp*, const Api* api,
                                              const KernelInfo* info, void** kernel) {
    return guarded(api, kName, [&] { *kernel = new K(*api, read_attributes(*api, info)); });
  }
  static ort_abi::Status* ORT_ABI_CALL compute(void* kernel, KernelContext* context) {
    const K& self = *static_cast<const K*>(kernel);
    return guarded(&self.api, kName, [&] { self.compute(context); });
  }
  static void ORT_ABI_CALL destroy(void* kernel) { delete static_cast<K*>(kernel); }

  static const char* ORT_ABI_CALL name(const CustomOp*) { return "IFNeuron"; }
  static const char* ORT_ABI_CALL provider(const CustomOp*) { return K::provider; }
  static size_t ORT_ABI_CALL inputs(const CustomOp*) { return kInputs; }
  static size_t ORT_ABI_CALL outputs(const CustomOp*) { return kOutputs; }
  static ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t index) {
    return index == kT ? ort_abi::kInt64 : kElementType<T>;
  }
  static ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t) { return kElementType<T>; }
  static ort_abi::Characteristic ORT_ABI_CALL input_kind(const CustomOp*, size_t index) {
    return index == kX || index == kT ? ort_abi::kRequired : ort_abi::kOptional;
  }
  static ort_abi::Characteristic ORT_ABI_CALL output_kind(const CustomOp*, size_t index) {
    return index == kS ? ort_abi::kRequired : ort_abi::kOptional;
  }
  // T decides shapes, so it is read on the host, on CUDA too.
  static ort_abi::MemoryType ORT_ABI_CALL memory(const CustomOp*, size_t index) {
    return index == kT ? ort_abi::kCpuInput : ort_abi::kDefaultMemory;
  }
  static int ORT_ABI_CALL one(const CustomOp*) { return 1; }
  static int ORT_ABI_CALL latest(const CustomOp*) { return std::numeric_limits<int>::max(); }
};

template <template <typename> class Kernel, typename T>
const CustomOp* make_op() {
  using C = Callbacks<Kernel, T>;
  static const CustomOp op = [] {
    CustomOp o = {};
    o.version = ort_abi::kApiVersion;
    o.create_kernel_v2 = C::create;
    o.compute_v2 = C::compute;
    o.destroy_kernel = C::destroy;
    o.get_name = C::name;
    o.get_execution_provider = C::provider;
    o.get_input_type = C::input_type;
    o.get_input_count = C::inputs;
    o.get_output_type = C::output_type;
    o.get_output_count = C::outputs;
    o.get_input_characteristic = C::input_kind;
    o.get_output_characteristic = C::output_kind;
    o.get_input_memory_type = C::memory;
    o.get_variadic_input_min_arity = C::one;
    o.get_variadic_input_homogeneity = C::one;
    o.get_variadic_output_min_arity = C::one;
    o.get_variadic_output_homogeneity = C::one;
    o.get_start_version = C::one;
    o.get_end_version = C::latest;
    return o;
  }();
  return &op;
}

template <template <typename> class Kernel>
void add_ops(std::vector<const CustomOp*>* ops) {
  ops->push_back(make_op<Kernel, float>());
  ops->push_back(make_op<Kernel, Half>());
  ops->push_back(make_op<Kernel, double>());
}

}  // namespace

std::vector<const CustomOp*> if_neuron_ops() {
  std::vector<const CustomOp*> ops;
  add_ops<CpuKernel>(&ops);
#ifdef ONNX_SNN_CUDA
  add_ops<CudaKernel>(&ops);
#endif
  return ops;
}

}  // namespace onnx_snn
