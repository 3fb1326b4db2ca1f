// The weights of an EventConv in the blocks that its kernels read.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "event_conv.h"

namespace onnx_snn {

class ConvWeights {
 public:
  // w: [kernel_height, kernel_width, channels of a group, out_channels], b: [out_channels].
  ConvWeights(const float* w, const float* b, int64_t kernel_size, int64_t group_channels,
              int64_t out_channels, int64_t groups, int64_t block_width);

  const std::vector<ConvBlock>& blocks() const { return blocks_; }
  bool is_depthwise() const { return is_depthwise_; }

 private:
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, kAlignment); }
  };
  static constexpr std::align_val_t kAlignment{64};

  bool is_depthwise_;
  std::unique_ptr<float[], Free> memory_;
  std::vector<ConvBlock> blocks_;
};

}  // namespace onnx_snn
