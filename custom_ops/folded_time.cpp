#include "folded_time.h"

#include <algorithm>
#include <cmath>

namespace onnx_snn {

using ort_abi::Api;
using ort_abi::KernelInfo;

void refuse(const std::string& why) { throw InvalidArgument(why); }

bool read_constant_input(const Api& api, const KernelInfo* info) {
  const int64_t constant = get_attribute(api, info, "constant_input", int64_t{0});
  if (constant != 0 && constant != 1) {
    refuse("constant_input must be 0 or 1, not " + std::to_string(constant));
  }
  return constant == 1;
}

float read_threshold(const Api& api, const KernelInfo* info, float absent) {
  const float threshold = get_attribute(api, info, "v_threshold", absent);
  if (!(threshold > 0) || !std::isfinite(threshold)) {
    refuse("v_threshold must be positive and finite, not " + std::to_string(threshold));
  }
  return threshold;
}

float read_v_init(const Api& api, const KernelInfo* info, float absent) {
  const float v_init = get_attribute(api, info, "v_init", absent);
  if (!std::isfinite(v_init)) refuse("v_init must be finite, not " + std::to_string(v_init));
  return v_init;
}

std::vector<int64_t> read_integers(const Api& api, const KernelInfo* info, const char* name,
                                   const std::vector<int64_t>& absent, size_t size, int64_t least,
                                   int64_t most) {
  const std::vector<int64_t> values = get_attribute(api, info, name, absent);
  const bool within = std::all_of(values.begin(), values.end(),
                                  [&](int64_t value) { return value >= least && value <= most; });
  if (values.size() != size || !within) {
    refuse(std::string(name) + " must be " + std::to_string(size) + " integers from " +
           std::to_string(least) + " to " + std::to_string(most) + ", not " + to_string(values));
  }
  return values;
}

int64_t read_steps(const Input& steps) {
  if (element_count(steps.shape) != 1 || steps.shape.size() > 1) {
    refuse("T must be one value, not a tensor of shape " + to_string(steps.shape));
  }
  const int64_t value = *static_cast<const int64_t*>(steps.data);
  if (value < 1) refuse("T must be 1 or more, not " + std::to_string(value));
  return value;
}

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
  element_count(shape);
  return shape;
}

void check_state(const char* name, const Input& state, const Shape& expected, const Shape& x,
                 int64_t steps) {
  if (!state.present || state.shape.empty() || state.shape == expected) return;
  refuse(std::string(name) + " has shape " + to_string(state.shape) + ", but " +
         to_string(expected) + " or a scalar is needed (x shape " + to_string(x) +
         ", T = " + std::to_string(steps) + ")");
}

}  // namespace onnx_snn
