// Windows over images, free of onnxruntime: what the kernels of all pools are told.
#pragma once

#include <cstdint>

namespace onnx_snn {

struct PoolShape {
  int64_t steps = 1, images = 0;
  int64_t height = 0, width = 0, channels = 0;
  int64_t out_height = 0, out_width = 0;
  int64_t kernel_height = 1, kernel_width = 1;
  int64_t stride_y = 1, stride_x = 1;
  int64_t pad_top = 0, pad_left = 0;  // smaller than the kernel, as those on the other sides
  int64_t dilation_y = 1, dilation_x = 1;
};

}  // namespace onnx_snn
