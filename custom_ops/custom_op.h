// The table of callbacks that onnxruntime reads an operator from, filled from a class of callbacks.
#pragma once

#include <limits>

#include "ort_abi.h"

namespace onnx_snn {

inline int ORT_ABI_CALL arity_one(const ort_abi::CustomOp*) { return 1; }
inline int ORT_ABI_CALL first_version(const ort_abi::CustomOp*) { return 1; }
inline int ORT_ABI_CALL any_version(const ort_abi::CustomOp*) {
  return std::numeric_limits<int>::max();
}

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
