#include "pool_attributes.h"

#include <string>

#include "folded_time.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::KernelInfo;

using Integers = std::vector<int64_t>;

int64_t out_size(int64_t size, size_t axis, const PoolAttributes& a, const Shape& x) {
  const int64_t padded = size + a.pads[axis] + a.pads[2 + axis];
  const int64_t reach = (a.kernel[axis] - 1) * a.dilations[axis] + 1;
  if (size < 1 || reach > padded) {
    refuse("kernel_shape " + to_string(a.kernel) + " is larger than x " + to_string(x) +
           " with its padding");
  }
  return (padded - reach) / a.strides[axis] + 1;
}

}  // namespace

PoolAttributes read_pool_attributes(const Api& api, const KernelInfo* info, size_t axes,
                                    int64_t most_kernel, bool has_dilations) {
  const Integers ones(axes, 1), zeros(2 * axes, 0);
  PoolAttributes a;
  a.kernel = read_integers(api, info, "kernel_shape", {}, axes, 1, most_kernel);
  a.strides = read_integers(api, info, "strides", ones, axes, 1);
  a.pads = read_integers(api, info, "pads", zeros, 2 * axes, 0);
  a.dilations = has_dilations ? read_integers(api, info, "dilations", ones, axes, 1) : ones;
  for (size_t side = 0; side < a.pads.size(); ++side) {
    if (a.pads[side] >= a.kernel[side % axes]) {
      refuse("pads " + to_string(a.pads) + " must be smaller than kernel_shape " +
             to_string(a.kernel));
    }
  }
  if (axes == 1) {
    for (Integers* values : {&a.kernel, &a.strides, &a.dilations}) {
      values->insert(values->begin(), 1);
    }
    a.pads = {0, a.pads[0], 0, a.pads[1]};
  }
  return a;
}

PoolShape pool_shape(const PoolAttributes& a, int64_t height, int64_t width, const Shape& x) {
  PoolShape s;
  s.height = height;
  s.width = width;
  s.out_height = out_size(height, 0, a, x);
  s.out_width = out_size(width, 1, a, x);
  s.kernel_height = a.kernel[0];
  s.kernel_width = a.kernel[1];
  s.stride_y = a.strides[0];
  s.stride_x = a.strides[1];
  s.pad_top = a.pads[0];
  s.pad_left = a.pads[1];
  s.dilation_y = a.dilations[0];
  s.dilation_x = a.dilations[1];
  return s;
}

}  // namespace onnx_snn
