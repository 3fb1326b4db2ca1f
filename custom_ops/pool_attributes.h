// What the pools read: attributes, and the windows that they make of an image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort_abi.h"
#include "pool_shape.h"
#include "tensors.h"

namespace onnx_snn {

// Along H and W, whatever the number of axes of the operator: one axis is a row of pixels.
struct PoolAttributes {
  std::vector<int64_t> kernel, strides, pads, dilations;
};

// Of windows over `axes` axes, 1 or 2, which `has_dilations` or not. Each side of the kernel is
// `most_kernel` at most.
PoolAttributes read_pool_attributes(const ort_abi::Api& api, const ort_abi::KernelInfo* info,
                                    size_t axes, int64_t most_kernel, bool has_dilations);

// The windows over images of so many places; those of all steps, images and channels of x are left
// to be filled in. Refuses windows that are larger than the image.
PoolShape pool_shape(const PoolAttributes& a, int64_t height, int64_t width, const Shape& x);

}  // namespace onnx_snn
