#include "event_pool_op.h"

#include <algorithm>
#include <limits>
#include <string>

#include "custom_op.h"
#include "event_pool_cpu.h"
#include "folded_time.h"
#include "session_pool.h"
#include "status.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOp;
using ort_abi::ElementType;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

enum Inputs : size_t { kX, kT, kC };
enum Outputs : size_t { kY, kCNext };

struct EventMaxPool {
  static constexpr const char *name = "EventMaxPool", *full_name = "onnx_snn.EventMaxPool";
  static constexpr bool counts = true;
  static constexpr size_t inputs = 3, outputs = 2;
};
struct EventSumPool {
  static constexpr const char *name = "EventSumPool", *full_name = "onnx_snn.EventSumPool";
  static constexpr bool counts = false;
  static constexpr size_t inputs = 1, outputs = 1;
};

using Integers = std::vector<int64_t>;

Integers read_integers(const Api& api, const KernelInfo* info, const char* name,
                       const Integers& absent, size_t size, int64_t least, int64_t most) {
  const Integers values = get_attribute(api, info, name, absent);
  const bool within = std::all_of(values.begin(), values.end(),
                                  [&](int64_t value) { return value >= least && value <= most; });
  if (values.size() != size || !within) {
    refuse(std::string(name) + " must be " + std::to_string(size) + " integers from " +
           std::to_string(least) + " to " + std::to_string(most) + ", not " + to_string(values));
  }
  return values;
}

struct Attributes {
  Integers kernel, strides, pads;

  Attributes(const Api& api, const KernelInfo* info)
      : kernel(read_integers(api, info, "kernel_shape", {}, 2, 1, kMostWindow)),
        strides(
            read_integers(api, info, "strides", {1, 1}, 2, 1, std::numeric_limits<int32_t>::max())),
        pads(read_integers(api, info, "pads", {0, 0, 0, 0}, 4, 0, kMostWindow)) {
    for (size_t side = 0; side < pads.size(); ++side) {
      if (pads[side] >= kernel[side % 2]) {
        refuse("pads " + to_string(pads) + " must be smaller than kernel_shape " +
               to_string(kernel));
      }
    }
  }

  int64_t out_size(size_t axis, const Shape& x) const {
    const int64_t size = x[1 + axis], padded = size + pads[axis] + pads[2 + axis];
    if (size < 1 || kernel[axis] > padded) {
      refuse("kernel_shape " + to_string(kernel) + " is larger than x " + to_string(x) +
             " with its padding");
    }
    return (padded - kernel[axis]) / strides[axis] + 1;
  }
};

PoolShape pool_shape(const Attributes& a, const Shape& x, int64_t steps) {
  if (x.size() != 4) refuse("x must be [T*N, H, W, C], not " + to_string(x));
  if (steps > kMostPoolSteps) {
    refuse("T must be " + std::to_string(kMostPoolSteps) + " or less, not " +
           std::to_string(steps));
  }
  PoolShape s;
  s.steps = steps;
  s.images = state_shape(x, steps, false)[0];
  s.height = x[1];
  s.width = x[2];
  s.channels = x[3];
  s.out_height = a.out_size(0, x);
  s.out_width = a.out_size(1, x);
  s.kernel_height = a.kernel[0];
  s.kernel_width = a.kernel[1];
  s.stride_y = a.strides[0];
  s.stride_x = a.strides[1];
  s.pad_top = a.pads[0];
  s.pad_left = a.pads[1];
  if (std::min(s.kernel_height, s.height) > kMostWindow / std::min(s.kernel_width, s.width)) {
    refuse("kernel_shape " + to_string(a.kernel) + " is too large");
  }
  return s;
}

template <typename Op>
class Kernel {
 public:
  Kernel(const Api& api_table, const KernelInfo* info)
      : api(api_table), attributes_(api_table, info) {
    const EventPoolKernels& kernels = event_pool_kernels(required_instruction_set());
    kernel_ = Op::counts ? kernels.max_pool : kernels.sum_pool;
  }

  void compute(KernelContext* context) const {
    const Input x = get_input(api, context, kX);
    const int64_t steps = Op::counts ? read_steps(get_input(api, context, kT)) : 1;
    EventPoolCall call = {};
    call.shape = pool_shape(attributes_, x.shape, steps);
    const PoolShape& s = call.shape;
    call.x = static_cast<const int8_t*>(x.data);
    const Shape out = {x.shape[0], s.out_height, s.out_width, s.channels};
    element_count(out);
    call.y = static_cast<int8_t*>(get_output(api, context, kY, out));
    if (Op::counts) {
      const Shape state = {s.images, s.height, s.width, s.channels};
      const Input c = get_input(api, context, kC);
      check_state("c", c, state, x.shape, s.steps);
      call.c = static_cast<const float*>(c.data);
      call.c_is_scalar = c.shape.empty();
      call.c_next = static_cast<float*>(get_output(api, context, kCNext, state));
    }
    run_event_pool(kernel_, call, SessionPool(api, context));
  }

  const Api& api;

 private:
  Attributes attributes_;
  PoolKernel kernel_;
};

template <typename Op>
struct Callbacks : CpuCallbacks<Op, Kernel<Op>> {
  static ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t index) {
    return index == kX ? ort_abi::kInt8 : index == kT ? ort_abi::kInt64 : ort_abi::kFloat;
  }
  static ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t index) {
    return index == kY ? ort_abi::kInt8 : ort_abi::kFloat;
  }
  static ort_abi::Characteristic ORT_ABI_CALL input_kind(const CustomOp*, size_t index) {
    return index <= kT ? ort_abi::kRequired : ort_abi::kOptional;
  }
};

}  // namespace

std::vector<const CustomOp*> event_pool_ops() {
  return {custom_op<Callbacks<EventMaxPool>>(), custom_op<Callbacks<EventSumPool>>()};
}

}  // namespace onnx_snn
