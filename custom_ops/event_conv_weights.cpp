#include "event_conv_weights.h"

#include <algorithm>

namespace onnx_snn {

std::vector<int64_t> block_bounds(const std::vector<WeightShape>& weights, int64_t block_width) {
  const int64_t outputs = weights.front().out_channels;
  std::vector<int64_t> bounds = {0};
  while (bounds.back() < outputs) {
    const int64_t first = bounds.back();
    int64_t next = first + block_width;
    for (const WeightShape& shape : weights) {
      const int64_t part = outputs / shape.parts();
      next = std::min(next, (first / part + 1) * part);
    }
    bounds.push_back(next);
  }
  return bounds;
}

ConvWeights::ConvWeights(const float* w, const float* b, const WeightShape& shape,
                         const std::vector<int64_t>& bounds)
    : is_depthwise_(shape.is_depthwise()) {
  const int64_t part = shape.out_channels / shape.parts();
  const int64_t rows = shape.kernel_size * shape.group_channels;
  int64_t size = 0;
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    const int64_t first = bounds[i], channels = bounds[i + 1] - first;
    const int64_t width = (channels + kBlockStep - 1) / kBlockStep * kBlockStep;
    blocks_.push_back({nullptr, nullptr, width, first, channels, first / part});
    size += (rows + 2) * width;
  }
  memory_.reset(
      static_cast<float*>(::operator new[](static_cast<size_t>(size) * sizeof(float), kAlignment)));
  float* to = memory_.get();
  const auto pack = [&](const float* from, int64_t count, const ConvBlock& block) {
    const float* start = to;
    for (int64_t row = 0; row < count; ++row, to += block.width) {
      const float* channels = from + row * shape.out_channels + block.first_channel;
      std::fill(std::copy(channels, channels + block.channels, to), to + block.width, 0.0f);
    }
    return start;
  };
  for (ConvBlock& block : blocks_) {
    block.weights = pack(w, rows, block);
    to = std::fill_n(to, block.width, 0.0f);
    block.bias = pack(b, b == nullptr ? 0 : 1, block);
  }
}

}  // namespace onnx_snn
