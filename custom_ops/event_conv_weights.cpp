#include "event_conv_weights.h"

#include <algorithm>
#include <cmath>

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

namespace {

constexpr int kBits = 22;  // of a weight; 24 would not fit in three limbs, which have a sign each
constexpr int64_t kGreatest[] = {127, 127 * 257, 127 * 65793};  // of so many limbs and one

// The exponent e such that |weight| * 2^e < 2^kBits for all of them, which are `stride` apart. No
// exponent: a weight is not finite, or so large or small that a sum or a scale could not be told.
bool exponent_of(const float* weights, int64_t count, int64_t stride, int* exponent) {
  constexpr int kMost = 80;
  float greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float size = std::fabs(weights[i * stride]);
    if (!std::isfinite(size)) return false;
    greatest = std::max(greatest, size);
  }
  int power = 0;
  std::frexp(greatest, &power);
  *exponent = kBits - power;
  return std::abs(power) <= kMost;
}

}  // namespace

template <typename T>
std::unique_ptr<T[], ConvWeights::Free> ConvWeights::allocate(int64_t size) {
  const size_t bytes = static_cast<size_t>(size) * sizeof(T);
  return std::unique_ptr<T[], Free>(static_cast<T*>(::operator new[](bytes, kAlignment)));
}

void ConvWeights::pack_tiles(const WeightShape& shape) {
  constexpr int64_t kMostInputs = 8192;  // so that sums stay in 32 bits
  const int64_t rows = shape.inputs();
  if (is_depthwise_ || rows == 0 || rows > kMostInputs) return;
  const CellShape cells(shape.group_channels, shape.kernel_width);
  if (cells.count > kMostCells) return;
  int64_t width = 0;
  for (const ConvBlock& block : blocks_) width += block.width;
  std::unique_ptr<float[], Free> scales = allocate<float>(width);
  std::vector<int32_t> integers(static_cast<size_t>(width * rows));
  int64_t limbs = 1;
  float* scale = scales.get();
  int32_t* integer = integers.data();
  for (const ConvBlock& block : blocks_) {
    for (int64_t channel = 0; channel < block.width; ++channel, integer += rows, ++scale) {
      int exponent;
      if (!exponent_of(block.weights + channel, rows, block.width, &exponent)) return;
      int32_t bits = 0, greatest = 0;
      for (int64_t row = 0; row < rows; ++row) {
        const float weight = block.weights[row * block.width + channel];
        integer[row] = static_cast<int32_t>(std::lrint(std::ldexp(weight, exponent)));
        bits |= integer[row];
        greatest = std::max(greatest, std::abs(integer[row]));
      }
      // As few limbs as hold them all.
      int shift = 0;
      while (bits != 0 && ((bits >> shift) & 1) == 0) ++shift;
      int64_t needed = 1;
      while ((greatest >> shift) > kGreatest[needed - 1]) ++needed;
      for (int64_t row = 0; row < rows; ++row) integer[row] >>= shift;
      *scale = std::ldexp(1.0f, shift - exponent);
      limbs = std::max(limbs, needed);
    }
  }
  const int64_t parts = cells.size / kTileInputs, columns = shape.kernel_width;
  const int64_t tile_size = kTileInputs * kBlockStep;
  const int64_t block_size = shape.kernel_height * cells.count * parts * limbs * tile_size;
  limbs_ = allocate<int8_t>(width / kBlockStep * block_size);
  std::fill_n(limbs_.get(), width / kBlockStep * block_size, int8_t{0});
  integer = integers.data();
  int8_t* to = limbs_.get();
  const float* found = scales.get();
  for (ConvBlock& block : blocks_) {
    block.limbs = to;
    block.scales = found;
    block.limb_count = limbs;
    for (int64_t channel = 0; channel < block.width; ++channel) {
      int8_t* const tiles = to + channel / kBlockStep * block_size;
      for (int64_t row = 0; row < rows; ++row, ++integer) {
        const int64_t column = row / shape.group_channels % columns;
        const int64_t kernel_row = row / shape.group_channels / columns;
        const int64_t cell = column / cells.taps;
        const int64_t input =
            column % cells.taps * shape.group_channels + row % shape.group_channels;
        const int64_t part = (kernel_row * cells.count + cell) * parts + input / kTileInputs;
        const int64_t in_tile = input % kTileInputs;
        const int64_t place = (in_tile / 4 * kBlockStep + channel % kBlockStep) * 4 + in_tile % 4;
        int32_t left = *integer;
        for (int64_t limb = 0; limb < limbs; ++limb) {
          const int8_t digit = static_cast<int8_t>(static_cast<uint32_t>(left) & 255u);
          tiles[(part * limbs + limb) * tile_size + place] = digit;
          left = (left - digit) / 256;
        }
      }
    }
    to += block.width / kBlockStep * block_size;
    found += block.width;
  }
  scales_ = std::move(scales);
}

ConvWeights::ConvWeights(const float* w, const float* b, const WeightShape& shape,
                         const std::vector<int64_t>& bounds, bool has_tiles)
    : is_depthwise_(shape.is_depthwise()) {
  const int64_t part = shape.out_channels / shape.parts();
  const int64_t rows = shape.inputs();
  int64_t size = 0;
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    const int64_t first = bounds[i], channels = bounds[i + 1] - first;
    const int64_t width = (channels + kBlockStep - 1) / kBlockStep * kBlockStep;
    blocks_.push_back(
        {nullptr, nullptr, width, first, channels, first / part, nullptr, nullptr, 0});
    size += (rows + 2) * width;
  }
  memory_ = allocate<float>(size);
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
  if (has_tiles) pack_tiles(shape);
}

}  // namespace onnx_snn
