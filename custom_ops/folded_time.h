// What operators read alike: the leading axis of T*N rows, and some attributes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tensors.h"

namespace onnx_snn {

[[noreturn]] void refuse(const std::string& why);

// Attributes, within their bounds. `absent`: the default.
bool read_constant_input(const ort_abi::Api& api, const ort_abi::KernelInfo* info);
float read_threshold(const ort_abi::Api& api, const ort_abi::KernelInfo* info, float absent);
float read_v_init(const ort_abi::Api& api, const ort_abi::KernelInfo* info, float absent);
std::vector<int64_t> read_integers(const ort_abi::Api& api, const ort_abi::KernelInfo* info,
                                   const char* name, const std::vector<int64_t>& absent,
                                   size_t size, int64_t least,
                                   int64_t most = std::numeric_limits<int32_t>::max());

// T, from its input.
int64_t read_steps(const Input& steps);

// The shape of the membrane: that of x with T*N rows cut down to N.
Shape state_shape(const Shape& x, int64_t steps, bool constant_input);

// And back.
Shape spike_shape(const Shape& state, int64_t steps);

// Refuses a state, named `name`, that is neither absent, a scalar nor of the shape expected.
void check_state(const char* name, const Input& state, const Shape& expected, const Shape& x,
                 int64_t steps);

}  // namespace onnx_snn
