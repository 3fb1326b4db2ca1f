#include "event_conv_weights.h"

#include <algorithm>

namespace onnx_snn {

ConvWeights::ConvWeights(const float* w, const float* b, int64_t kernel_size,
                         int64_t group_channels, int64_t out_channels, int64_t groups,
                         int64_t block_width)
    : is_depthwise_(group_channels == 1 && groups == out_channels) {
  // Depthwise, the channels of all groups lie side by side.
  const int64_t parts = is_depthwise_ ? 1 : groups;
  const int64_t part = out_channels / parts, rows = kernel_size * group_channels;
  int64_t size = 0;
  for (int64_t group = 0; group < parts; ++group) {
    for (int64_t first = 0; first < part; first += block_width) {
      const int64_t channels = std::min(block_width, part - first);
      const int64_t width = (channels + kBlockStep - 1) / kBlockStep * kBlockStep;
      blocks_.push_back({nullptr, nullptr, width, group * part + first, channels, group});
      size += (rows + 2) * width;
    }
  }
  memory_.reset(
      static_cast<float*>(::operator new[](static_cast<size_t>(size) * sizeof(float), kAlignment)));
  float* to = memory_.get();
  const auto pack = [&](const float* from, int64_t count, const ConvBlock& block) {
    const float* start = to;
    for (int64_t row = 0; row < count; ++row, to += block.width) {
      const float* channels = from + row * out_channels + block.first_channel;
      std::fill(std::copy(channels, channels + block.channels, to), to + block.width, 0.0f);
    }
    return start;
  };
  for (ConvBlock& block : blocks_) {
    block.weights = pack(w, rows, block);
    to = std::fill_n(to, block.width, 0.0f);
    block.bias = pack(b, 1, block);
  }
}

}  // namespace onnx_snn
