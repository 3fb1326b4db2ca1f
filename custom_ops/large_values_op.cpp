#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "large_values.h"
#include "tensors.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOp;
using ort_abi::ElementType;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

enum Inputs : size_t { kX, kFloor, kInputs };
enum Outputs : size_t { kAbove, kCount, kOutputs };

constexpr const char* kName = "onnx_snn.LargeValues";

struct Kernel {
  const Api& api;
  int64_t block;
  LargeValuesScan scan;
};

int64_t read_block(const Api& api, const KernelInfo* info) {
  const int64_t block = get_attribute(api, info, "block", int64_t{1});
  if (block < 1 || kLanes % block != 0) {
    throw InvalidArgument("block must be 1, 2, 4, 8 or 16, not " + std::to_string(block));
  }
  return block;
}

// Samples are shared out over the session's threads.
struct Work {
  const Activations& activations;
  LargeValuesScan scan;
  int64_t grain;
  std::vector<KeyList> found;

  Work(const Activations& a, LargeValuesScan s, int64_t samples_per_task)
      : activations(a),
        scan(s),
        grain(samples_per_task),
        found(static_cast<size_t>((a.samples + grain - 1) / grain)) {}

  void operator()(size_t index) {
    const int64_t begin = static_cast<int64_t>(index) * grain;
    found[index] =
        find_large_values(activations, scan, begin, std::min(begin + grain, activations.samples));
  }
};

int64_t grain_of(const Activations& a) {
  constexpr int64_t kWork = 1 << 16, kTasks = 16;
  const int64_t values = std::max<int64_t>(a.channels * a.features, 1);
  return std::max(kWork / values + 1, (a.samples + kTasks - 1) / kTasks);
}

Activations read_inputs(const Api& api, const KernelContext* context, int64_t block) {
  const Input x = get_input(api, context, kX);
  const Input floor = get_input(api, context, kFloor);
  const auto rounded_up = [&](int64_t channels) { return (channels + block - 1) / block * block; };
  if (x.shape.size() < 2 || floor.shape.size() != 1 || x.shape[1] != rounded_up(floor.shape[0])) {
    const std::string blocks = block == 1 ? "" : " in blocks of " + std::to_string(block);
    throw InvalidArgument("x must be [N, C, ...]" + blocks + " and floor [C], not " +
                          to_string(x.shape) + " and " + to_string(floor.shape));
  }
  const int64_t features = element_count(Shape(x.shape.begin() + 2, x.shape.end()));
  return {static_cast<const float*>(x.data),    x.shape[0], floor.shape[0], features, block,
          static_cast<const float*>(floor.data)};
}

void write_outputs(const Api& api, KernelContext* context, const Activations& activations,
                   const std::vector<KeyList>& found) {
  int64_t size = 0;
  for (const auto& part : found) size += static_cast<int64_t>(part.size());
  int64_t* above = static_cast<int64_t*>(get_output(api, context, kAbove, {size}));
  for (const auto& part : found) above = std::copy(part.begin(), part.end(), above);
  *static_cast<int64_t*>(get_output(api, context, kCount, {})) =
      activations.samples * activations.features;
}

void compute(const Kernel& kernel, KernelContext* context) {
  const Api& api = kernel.api;
  const Activations activations = read_inputs(api, context, kernel.block);
  Work work(activations, kernel.scan, grain_of(activations));
  const size_t tasks = work.found.size();
  if (tasks == 1) {
    work(0);
  } else if (tasks > 1) {
    void (*const body)(void*, size_t) = [](void* w, size_t i) { (*static_cast<Work*>(w))(i); };
    check(api.call<ort_abi::ParallelFor>(context, body, tasks, tasks, static_cast<void*>(&work)));
  }
  write_outputs(api, context, activations, work.found);
}

ort_abi::Status* ORT_ABI_CALL create_kernel(const CustomOp*, const Api* api, const KernelInfo* info,
                                            void** kernel) {
  return guarded(api, kName, [&] {
    *kernel = new Kernel{*api, read_block(*api, info), scan_of(required_instruction_set())};
  });
}
ort_abi::Status* ORT_ABI_CALL run_kernel(void* kernel, KernelContext* context) {
  const Kernel& self = *static_cast<Kernel*>(kernel);
  return guarded(&self.api, kName, [&] { compute(self, context); });
}
void ORT_ABI_CALL destroy_kernel(void* kernel) { delete static_cast<Kernel*>(kernel); }

const char* ORT_ABI_CALL name(const CustomOp*) { return "LargeValues"; }
const char* ORT_ABI_CALL provider(const CustomOp*) { return nullptr; }  // the CPU
size_t ORT_ABI_CALL inputs(const CustomOp*) { return kInputs; }
size_t ORT_ABI_CALL outputs(const CustomOp*) { return kOutputs; }
ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t) { return ort_abi::kFloat; }
ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t) { return ort_abi::kInt64; }
ort_abi::Characteristic ORT_ABI_CALL required(const CustomOp*, size_t) {
  return ort_abi::kRequired;
}
ort_abi::MemoryType ORT_ABI_CALL memory(const CustomOp*, size_t) { return ort_abi::kDefaultMemory; }
int ORT_ABI_CALL one(const CustomOp*) { return 1; }
int ORT_ABI_CALL latest(const CustomOp*) { return std::numeric_limits<int>::max(); }

}  // namespace

const CustomOp* large_values_op() {
  static const CustomOp op = [] {
    CustomOp o = {};
    o.version = ort_abi::kApiVersion;
    o.create_kernel_v2 = create_kernel;
    o.compute_v2 = run_kernel;
    o.destroy_kernel = destroy_kernel;
    o.get_name = name;
    o.get_execution_provider = provider;
    o.get_input_type = input_type;
    o.get_input_count = inputs;
    o.get_output_type = output_type;
    o.get_output_count = outputs;
    o.get_input_characteristic = required;
    o.get_output_characteristic = required;
    o.get_input_memory_type = memory;
    o.get_variadic_input_min_arity = one;
    o.get_variadic_input_homogeneity = one;
    o.get_variadic_output_min_arity = one;
    o.get_variadic_output_homogeneity = one;
    o.get_start_version = one;
    o.get_end_version = latest;
    return o;
  }();
  return &op;
}

}  // namespace onnx_snn
