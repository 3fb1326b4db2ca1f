// The table of callbacks that onnxruntime reads an operator from, filled from a class of callbacks.
#pragma once

#include <limits>

#include "ort_abi.h"
#include "status.h"

namespace onnx_snn {

inline int ORT_ABI_CALL arity_one(const ort_abi::CustomOp*) { return 1; }
inline int ORT_ABI_CALL first_version(const ort_abi::CustomOp*) { return 1; }
inline int ORT_ABI_CALL any_version(const ort_abi::CustomOp*) {
  return std::numeric_limits<int>::max();
}

// The callbacks that operators of the CPU have alike. Op tells its name, the one in messages, and
// how many inputs and outputs there are, of which the first is always wanted; K is its kernel.
template <typename Op, typename K>
struct CpuCallbacks {
  static ort_abi::Status* ORT_ABI_CALL create(const ort_abi::CustomOp*, const ort_abi::Api* api,
                                              const ort_abi::KernelInfo* info, void** kernel) {
    return guarded(api, Op::full_name, [&] { *kernel = new K(*api, info); });
  }
  static ort_abi::Status* ORT_ABI_CALL compute(void* kernel, ort_abi::KernelContext* context) {
    const K& self = *static_cast<const K*>(kernel);
    return guarded(&self.api, Op::full_name, [&] { self.compute(context); });
  }
  static void ORT_ABI_CALL destroy(void* kernel) { delete static_cast<K*>(kernel); }

  static const char* ORT_ABI_CALL name(const ort_abi::CustomOp*) { return Op::name; }
  static const char* ORT_ABI_CALL provider(const ort_abi::CustomOp*) { return nullptr; }  // the CPU
  static size_t ORT_ABI_CALL inputs(const ort_abi::CustomOp*) { return Op::inputs; }
  static size_t ORT_ABI_CALL outputs(const ort_abi::CustomOp*) { return Op::outputs; }
  static ort_abi::Characteristic ORT_ABI_CALL output_kind(const ort_abi::CustomOp*, size_t index) {
    return index == 0 ? ort_abi::kRequired : ort_abi::kOptional;
  }
  static ort_abi::MemoryType ORT_ABI_CALL memory(const ort_abi::CustomOp*, size_t) {
    return ort_abi::kDefaultMemory;
  }
};

// C has the static functions named below; the table lives as long as the library.
template <typename C>
const ort_abi::CustomOp* custom_op() {
  static const ort_abi::CustomOp op = [] {
    ort_abi::CustomOp o = {};
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
    o.get_variadic_input_min_arity = arity_one;
    o.get_variadic_input_homogeneity = arity_one;
    o.get_variadic_output_min_arity = arity_one;
    o.get_variadic_output_homogeneity = arity_one;
    o.get_start_version = first_version;
    o.get_end_version = any_version;
    return o;
  }();
  return &op;
}

}  // namespace onnx_snn
