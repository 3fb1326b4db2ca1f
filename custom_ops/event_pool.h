// Pools of events, free of onnxruntime: what their kernels are told.
//
// Events are int8 with the channels last. A tile is a part of the output of one image: some rows,
// columns and channels. All that a tile computes with stays in the cache while all steps run.
#pragma once

#include <cstdint>

#include "pool_shape.h"

namespace onnx_snn {

// How the output of an image is cut into tiles.
struct PoolTiling {
  int64_t rows, columns, channels;                      // of a tile, at most
  int64_t row_tiles, column_tiles, channel_tiles;       // of an image
  int64_t count_values, row_values, out_values, bytes;  // of the memory of a tile, at most
};

struct EventPoolCall {
  PoolShape shape;
  PoolTiling tiling;

  const int8_t* x;  // [steps * images, height, width, channels]
  int8_t* y;        // [steps * images, out_height, out_width, channels]

  // EventMaxPool: counts before and after the steps, [images, height, width, channels].
  const float* c;
  bool c_is_scalar;
  float* c_next;
};

// Counts are whole numbers up to here; float32 holds no more of them.
constexpr int32_t kMostCount = 1 << 24;
// So that no count leaves 32 bits.
constexpr int64_t kMostPoolSteps = 1 << 23;
// Places of a window that can hold events, and its size along an axis; so that no sum does.
constexpr int64_t kMostWindow = 1 << 24;

}  // namespace onnx_snn
