// Max pooling of spikes, free of onnxruntime: what the CPU and CUDA kernels are told.
//
// At every step, with c the sums of all x so far:
//     c += x_t
//     m  = max of c over the window              (outside of the image: the least finite number)
//     s  = m - m before
// A window of which nothing lies inside the image, as dilated ones may, so emits 0.
#pragma once

#include <cstdint>

#include "kernel_types.h"
#include "pool_shape.h"

namespace onnx_snn {

// Places of a window at most: a thread of a GPU holds their counts in registers.
constexpr int64_t kMostPlaces = 25;
// Places of an image at most, before and after pooling, so that 32 bits tell them apart.
constexpr int64_t kMostPixels = int64_t{1} << 30;

template <typename T>
struct SpikeMaxPoolRun {
  using Count = typename StateOf<T>::type;

  PoolShape shape;
  const T* x;      // [steps * images, channels, height, width]
  const Count* c;  // [images, channels, height, width], one value when c_is_scalar, or null: 0
  bool c_is_scalar;
  T* s;           // [steps * images, channels, out_height, out_width]
  Count* c_next;  // as c, or null
};

}  // namespace onnx_snn
