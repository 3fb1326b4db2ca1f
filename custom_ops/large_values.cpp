#include "large_values.h"

#include <algorithm>
#include <cstring>
#include <utility>

#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace onnx_snn {
namespace {

constexpr int kWidth = 16;  // values looked at together
constexpr int32_t kBit[kWidth] = {1,       1 << 1,  1 << 2,  1 << 3, 1 << 4,  1 << 5,
                                  1 << 6,  1 << 7,  1 << 8,  1 << 9, 1 << 10, 1 << 11,
                                  1 << 12, 1 << 13, 1 << 14, 1 << 15};

int lowest_bit(uint32_t mask) {
#ifdef _MSC_VER
  unsigned long index;
  _BitScanForward(&index, mask);
  return static_cast<int>(index);
#else
  return __builtin_ctz(mask);
#endif
}

int64_t* keep(float value, int64_t channel, int64_t* end) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *end = channel << 32 | bits;
  return end + 1;
}

// One channel of one sample. Writes what is above the floor; returns the new end.
int64_t* find_in_row(const float* x, int64_t size, float floor, int64_t channel, int64_t* end) {
  int64_t i = 0;
  for (; i + kWidth <= size; i += kWidth) {
    int32_t mask = 0;
#pragma omp simd reduction(| : mask)
    for (int j = 0; j < kWidth; ++j) mask |= x[i + j] <= floor ? 0 : kBit[j];
    for (uint32_t left = static_cast<uint32_t>(mask); left != 0; left &= left - 1) {
      end = keep(x[i + lowest_bit(left)], channel, end);
    }
  }
  for (; i < size; ++i) {
    if (!(x[i] <= floor)) end = keep(x[i], channel, end);
  }
  return end;
}

}  // namespace

int64_t* KeyList::reserve(size_t size) {
  if (capacity_ - size_ < size) {
    capacity_ = 2 * capacity_ + size;
    std::unique_ptr<int64_t[]> larger(new int64_t[capacity_]);
    std::copy(begin(), end(), larger.get());
    data_ = std::move(larger);
  }
  return data_.get() + size_;
}

KeyList find_large_values(const Activations& activations, int64_t begin, int64_t end) {
  const int64_t channels = activations.channels, features = activations.features;
  KeyList above;
  const float* row = activations.values + begin * channels * features;
  for (int64_t sample = begin; sample < end; ++sample) {
    for (int64_t c = 0; c < channels; ++c, row += features) {
      int64_t* to = above.reserve(static_cast<size_t>(features));
      above.finish(find_in_row(row, features, activations.floor[c], c, to));
    }
  }
  return above;
}

}  // namespace onnx_snn
