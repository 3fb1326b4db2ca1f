#include "spike_max_pool_op.h"

#include <algorithm>
#include <string>

#include "folded_time.h"
#include "neuron_op.h"
#include "pool_attributes.h"
#include "spike_max_pool.h"
#include "spike_max_pool_cpu.h"
#ifdef ONNX_SNN_CUDA
#include "spike_max_pool_cuda.h"
#endif

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOp;
using ort_abi::ElementType;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

struct SpikeMaxPoolOp {
  static constexpr const char *name = "SpikeMaxPool", *full_name = "onnx_snn.SpikeMaxPool";
  static constexpr size_t inputs = 3, outputs = 2;
  static constexpr size_t kT = 1, kC = 2;  // inputs
  static constexpr size_t kCNext = 1;      // output
  struct Attributes : PoolAttributes {
    size_t axes;
  };

  static Attributes read_attributes(const Api& api, const KernelInfo* info) {
    const bool is_row = get_attribute(api, info, "kernel_shape", Shape()).size() == 1;
    const size_t axes = is_row ? 1 : 2;
    const Attributes a = {read_pool_attributes(api, info, axes, kMostPlaces, true), axes};
    if (a.kernel[0] * a.kernel[1] > kMostPlaces) {
      refuse("kernel_shape " + to_string(a.kernel) + " has more than " +
             std::to_string(kMostPlaces) + " places");
    }
    return a;
  }

  template <typename T>
  static SpikeMaxPoolRun<T> prepare(const Api& api, KernelContext* context, const Attributes& a) {
    const Input x = get_input(api, context, kX);
    const int64_t steps = read_steps(get_input(api, context, kT));
    const Input c = get_input(api, context, kC);
    if (x.shape.size() != 2 + a.axes) {
      refuse(std::string("x must be [T*N, C, ") + (a.axes == 1 ? "W" : "H, W") + "], not " +
             to_string(x.shape));
    }
    const Shape state = state_shape(x.shape, steps, false);

    SpikeMaxPoolRun<T> run;
    const int64_t height = a.axes == 1 ? 1 : x.shape[2];
    run.shape = pool_shape(a, height, x.shape.back(), x.shape);
    run.shape.steps = steps;
    run.shape.images = state[0];
    run.shape.channels = state[1];
    const PoolShape& s = run.shape;
    if (s.height > kMostPixels / s.width || s.out_height > kMostPixels / s.out_width) {
      refuse("an image of x " + to_string(x.shape) + " is too large");
    }
    check_state("c", c, state, x.shape, steps);
    Shape pooled = x.shape;
    pooled.back() = s.out_width;
    if (a.axes == 2) pooled[2] = s.out_height;
    element_count(pooled);
    run.x = static_cast<const T*>(x.data);
    run.c = static_cast<decltype(run.c)>(c.data);
    run.c_is_scalar = c.shape.empty();
    run.s = static_cast<T*>(get_output(api, context, kS, pooled));
    run.c_next = static_cast<decltype(run.c_next)>(get_output(api, context, kCNext, state));
    return run;
  }

#ifdef ONNX_SNN_CUDA
  template <typename T>
  static void run_cuda(const SpikeMaxPoolRun<T>& run, void* stream) {
    run_spike_max_pool_cuda(run, stream);
  }
#endif
};

template <typename Op, typename T>
struct PoolKernel {
  const Api& api;
  typename Op::Attributes attributes;

  PoolKernel(const Api& api_table, const typename Op::Attributes& a)
      : api(api_table), attributes(a) {}

  void compute(KernelContext* context) const {
    const auto run = Op::template prepare<T>(api, context, attributes);
    run_spike_max_pool_cpu(run, SessionPool(api, context));
  }

  static constexpr const char* provider = nullptr;  // the CPU
};

// Counts are of the type they are summed in.
template <template <typename, typename> class Kernel, typename T>
struct PoolCallbacks : Callbacks<Kernel, SpikeMaxPoolOp, T> {
  using Base = Callbacks<Kernel, SpikeMaxPoolOp, T>;
  static constexpr ElementType kCounts = kElementType<typename StateOf<T>::type>;

  static ElementType ORT_ABI_CALL input_type(const CustomOp* op, size_t index) {
    return index == SpikeMaxPoolOp::kC ? kCounts : Base::input_type(op, index);
  }
  static ElementType ORT_ABI_CALL output_type(const CustomOp* op, size_t index) {
    return index == SpikeMaxPoolOp::kCNext ? kCounts : Base::output_type(op, index);
  }
};

template <template <typename, typename> class Kernel>
void add_pools(std::vector<const CustomOp*>* ops) {
  ops->push_back(custom_op<PoolCallbacks<Kernel, float>>());
  ops->push_back(custom_op<PoolCallbacks<Kernel, Half>>());
  ops->push_back(custom_op<PoolCallbacks<Kernel, double>>());
}

}  // namespace

std::vector<const CustomOp*> spike_max_pool_ops() {
  std::vector<const CustomOp*> ops;
  add_pools<PoolKernel>(&ops);
#ifdef ONNX_SNN_CUDA
  add_pools<CudaKernel>(&ops);
#endif
  return ops;
}

}  // namespace onnx_snn
