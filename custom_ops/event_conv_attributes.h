// What the convolutions of events read: attributes and the shapes of their inputs, within bounds.
#pragma once

#include <cstdint>
#include <vector>

#include "event_conv.h"
#include "event_conv_weights.h"
#include "ort_abi.h"
#include "tensors.h"

namespace onnx_snn {

// One of the convolutions of an operator, and what errors call its inputs.
struct ConvAttributes {
  const char* x = "x";
  const char* w = "W";
  const char* group = "group";
  std::vector<int64_t> strides, pads, dilations;
  int64_t groups = 1;
};

ConvAttributes read_conv_attributes(const ort_abi::Api& api, const ort_abi::KernelInfo* info);
ConvAttributes read_shortcut_attributes(const ort_abi::Api& api, const ort_abi::KernelInfo* info);

// Refuses weights that no input could have.
void check_weights(const Input& w, const Input& b, const ConvAttributes& a);
void check_shortcut_weights(const Input& r, const Input& w, const ConvAttributes& a);
WeightShape weight_shape(const Input& w, const ConvAttributes& a);

// Refuses events that the weights, which have been checked, do not fit.
ConvShape conv_shape(const ConvAttributes& a, const Shape& x, const Shape& w, int64_t steps);

// And a shortcut, of r, that cannot be added to a convolution, of x.
void check_sum(const ConvShape& conv, const Shape& x, const ConvShape& shortcut, const Shape& r);

}  // namespace onnx_snn
