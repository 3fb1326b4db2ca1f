// The weights of an EventConv in the blocks that its kernels read.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "event_conv.h"

namespace onnx_snn {

// Weights [kernel height, kernel width, channels of a group, out_channels] in so many groups.
struct WeightShape {
  int64_t kernel_height, kernel_width, group_channels, out_channels, groups;

  int64_t inputs() const { return kernel_height * kernel_width * group_channels; }

  bool is_depthwise() const { return group_channels == 1 && groups == out_channels; }
  // Groups whose outputs cannot be in one block. Depthwise, the channels lie side by side.
  int64_t parts() const { return is_depthwise() ? 1 : groups; }
};

// Where blocks of at most `block_width` output channels begin, and at last out_channels: none has
// outputs of two parts, of any of the weights, which all have the same outputs.
std::vector<int64_t> block_bounds(const std::vector<WeightShape>& weights, int64_t block_width);

class ConvWeights {
 public:
  // w: as its shape says; b: [out_channels], or null: zeros. has_tiles: for that form too, if the
  // weights allow it.
  ConvWeights(const float* w, const float* b, const WeightShape& shape,
              const std::vector<int64_t>& bounds, bool has_tiles);

  const std::vector<ConvBlock>& blocks() const { return blocks_; }
  bool is_depthwise() const { return is_depthwise_; }

 private:
  struct Free {
    void operator()(void* memory) const { ::operator delete[](memory, kAlignment); }
  };
  static constexpr std::align_val_t kAlignment{64};
  template <typename T>
  static std::unique_ptr<T[], Free> allocate(int64_t size);
  void pack_tiles(const WeightShape& shape);

  bool is_depthwise_;
  std::unique_ptr<float[], Free> memory_, scales_;
  std::unique_ptr<int8_t[], Free> limbs_;
  std::vector<ConvBlock> blocks_;
};

}  // namespace onnx_snn
