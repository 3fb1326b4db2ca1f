// A neuron as onnxruntime sees it: one OrtCustomOp for each element type and execution provider.
//
// A neuron is told by a struct Op with
//     name, full_name                      as onnxruntime knows it, and as errors begin
//     inputs, outputs                      their numbers; those behind T and s are optional
//     kT                                   which input T is
//     Attributes                           and read_attributes(api, info)
//     Run<T>                               a call, and prepare<T>(api, context, attributes)
//     kernels(set)                         those of the CPU
//     run_cuda(run, stream)                where ONNX_SNN_CUDA is defined
#pragma once

#include <vector>

#include "cpu_features.h"
#include "custom_op.h"
#include "neuron_cpu.h"
#include "ort_abi.h"
#include "session_pool.h"
#include "status.h"

namespace onnx_snn {

constexpr size_t kX = 0;  // input
constexpr size_t kS = 0;  // output

// The kernels hold attributes only, so one of them may run in any number of threads.
template <typename Op, typename T>
struct CpuKernel {
  const ort_abi::Api& api;
  typename Op::Attributes attributes;
  const NeuronKernels<Op::template Run>& kernels;

  CpuKernel(const ort_abi::Api& api_table, const typename Op::Attributes& a)
      : api(api_table), attributes(a), kernels(Op::kernels(required_instruction_set())) {}

  void compute(ort_abi::KernelContext* context) const {
    const auto run = Op::template prepare<T>(api, context, attributes);
    run_on_cpu(kernels, run, SessionPool(api, context));
  }

  static constexpr const char* provider = nullptr;  // the CPU
};

#ifdef ONNX_SNN_CUDA
template <typename Op, typename T>
struct CudaKernel {
  const ort_abi::Api& api;
  typename Op::Attributes attributes;

  CudaKernel(const ort_abi::Api& api_table, const typename Op::Attributes& a)
      : api(api_table), attributes(a) {}

  void compute(ort_abi::KernelContext* context) const {
    void* stream = nullptr;
    check(api.call<ort_abi::GetGpuComputeStream>(context, &stream));
    Op::run_cuda(Op::template prepare<T>(api, context, attributes), stream);
  }

  static constexpr const char* provider = "CUDAExecutionProvider";
};
#endif

template <typename T>
constexpr ort_abi::ElementType kElementType = ort_abi::kUndefined;
template <>
constexpr ort_abi::ElementType kElementType<float> = ort_abi::kFloat;
template <>
constexpr ort_abi::ElementType kElementType<Half> = ort_abi::kFloat16;
template <>
constexpr ort_abi::ElementType kElementType<double> = ort_abi::kDouble;

// The C callbacks. CreateKernelV2 and KernelComputeV2 are the ones that can report an error.
template <template <typename, typename> class Kernel, typename Op, typename T>
struct Callbacks {
  using K = Kernel<Op, T>;
  using CustomOp = ort_abi::CustomOp;

  static ort_abi::Status* ORT_ABI_CALL create(const CustomOp*, const ort_abi::Api* api,
                                              const ort_abi::KernelInfo* info, void** kernel) {
    return guarded(api, Op::full_name,
                   [&] { *kernel = new K(*api, Op::read_attributes(*api, info)); });
  }
  static ort_abi::Status* ORT_ABI_CALL compute(void* kernel, ort_abi::KernelContext* context) {
    const K& self = *static_cast<const K*>(kernel);
    return guarded(&self.api, Op::full_name, [&] { self.compute(context); });
  }
  static void ORT_ABI_CALL destroy(void* kernel) { delete static_cast<K*>(kernel); }

  static const char* ORT_ABI_CALL name(const CustomOp*) { return Op::name; }
  static const char* ORT_ABI_CALL provider(const CustomOp*) { return K::provider; }
  static size_t ORT_ABI_CALL inputs(const CustomOp*) { return Op::inputs; }
  static size_t ORT_ABI_CALL outputs(const CustomOp*) { return Op::outputs; }
  static ort_abi::ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t index) {
    return index == Op::kT ? ort_abi::kInt64 : kElementType<T>;
  }
  static ort_abi::ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t) {
    return kElementType<T>;
  }
  static ort_abi::Characteristic ORT_ABI_CALL input_kind(const CustomOp*, size_t index) {
    return index <= Op::kT ? ort_abi::kRequired : ort_abi::kOptional;
  }
  static ort_abi::Characteristic ORT_ABI_CALL output_kind(const CustomOp*, size_t index) {
    return index == kS ? ort_abi::kRequired : ort_abi::kOptional;
  }
  // T decides shapes, so it is read on the host, on CUDA too.
  static ort_abi::MemoryType ORT_ABI_CALL memory(const CustomOp*, size_t index) {
    return index == Op::kT ? ort_abi::kCpuInput : ort_abi::kDefaultMemory;
  }
};

template <template <typename, typename> class Kernel, typename Op>
void add_ops(std::vector<const ort_abi::CustomOp*>* ops) {
  ops->push_back(custom_op<Callbacks<Kernel, Op, float>>());
  ops->push_back(custom_op<Callbacks<Kernel, Op, Half>>());
  ops->push_back(custom_op<Callbacks<Kernel, Op, double>>());
}

template <typename Op>
std::vector<const ort_abi::CustomOp*> neuron_ops() {
  std::vector<const ort_abi::CustomOp*> ops;
  add_ops<CpuKernel, Op>(&ops);
#ifdef ONNX_SNN_CUDA
  add_ops<CudaKernel, Op>(&ops);
#endif
  return ops;
}

}  // namespace onnx_snn
