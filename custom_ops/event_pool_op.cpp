#include "event_pool_op.h"

#include <algorithm>
#include <string>

#include "custom_op.h"
#include "event_pool_cpu.h"
#include "folded_time.h"
#include "pool_attributes.h"
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

PoolShape shape_of_call(const PoolAttributes& a, const Shape& x, int64_t steps) {
  if (x.size() != 4) refuse("x must be [T*N, H, W, C], not " + to_string(x));
  if (steps > kMostPoolSteps) {
    refuse("T must be " + std::to_string(kMostPoolSteps) + " or less, not " +
           std::to_string(steps));
  }
  PoolShape s = pool_shape(a, x[1], x[2], x);
  s.steps = steps;
  s.images = state_shape(x, steps, false)[0];
  s.channels = x[3];
  if (std::min(s.kernel_height, s.height) > kMostWindow / std::min(s.kernel_width, s.width)) {
    refuse("kernel_shape " + to_string(a.kernel) + " is too large");
  }
  return s;
}

template <typename Op>
class Kernel {
 public:
  Kernel(const Api& api_table, const KernelInfo* info)
      : api(api_table), attributes_(read_pool_attributes(api_table, info, 2, kMostWindow, false)) {
    const EventPoolKernels& kernels = event_pool_kernels(required_instruction_set());
    kernel_ = Op::counts ? kernels.max_pool : kernels.sum_pool;
  }

  void compute(KernelContext* context) const {
    const Input x = get_input(api, context, kX);
    const int64_t steps = Op::counts ? read_steps(get_input(api, context, kT)) : 1;
    EventPoolCall call = {};
    call.shape = shape_of_call(attributes_, x.shape, steps);
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
  PoolAttributes attributes_;
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
