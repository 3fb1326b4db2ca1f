// Reading inputs, allocating outputs and reading attributes, through onnxruntime's C API.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ort_abi.h"
#include "status.h"

namespace onnx_snn {

using Shape = std::vector<int64_t>;

std::string to_string(const Shape& shape);

// The number of values; throws InvalidArgument where no memory could hold them.
int64_t element_count(const Shape& shape);

// An input; an absent optional one has no data pointer and `present` is false.
struct Input {
  bool present = false;
  Shape shape;
  const void* data = nullptr;
};

Input get_input(const ort_abi::Api& api, const ort_abi::KernelContext* context, size_t index);

// An input of the node that is an initializer, when the kernel is made; else not `present`.
Input get_constant_input(const ort_abi::Api& api, const ort_abi::KernelInfo* info, size_t index);

// Allocates an output; null for an optional one that nobody wants.
void* get_output(const ort_abi::Api& api, ort_abi::KernelContext* context, size_t index,
                 const Shape& shape);

// An attribute, or `absent` where the node has none. One of another type is an error.
int64_t get_attribute(const ort_abi::Api& api, const ort_abi::KernelInfo* info, const char* name,
                      int64_t absent);
float get_attribute(const ort_abi::Api& api, const ort_abi::KernelInfo* info, const char* name,
                    float absent);
std::string get_attribute(const ort_abi::Api& api, const ort_abi::KernelInfo* info,
                          const char* name, const std::string& absent);
std::vector<int64_t> get_attribute(const ort_abi::Api& api, const ort_abi::KernelInfo* info,
                                   const char* name, const std::vector<int64_t>& absent);

}  // namespace onnx_snn
