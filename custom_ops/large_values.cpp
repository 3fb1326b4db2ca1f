#include "large_values.h"

#include <algorithm>
#include <cstring>
#include <utility>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define ONNX_SNN_HAS_SSE2 1
#endif
#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace onnx_snn {
namespace {

constexpr int kWidth = 16;  // values looked at together

// A bit for each of the next kWidth values: whether it is not <= floor.
uint32_t mask_above(const float* x, float floor) {
#ifdef ONNX_SNN_HAS_SSE2
  const __m128 limit = _mm_set1_ps(floor);
  const auto above = [&](int i) {
    return _mm_castps_si128(_mm_cmpnle_ps(_mm_loadu_ps(x + i), limit));
  };
  const __m128i low = _mm_packs_epi32(above(0), above(4));
  const __m128i high = _mm_packs_epi32(above(8), above(12));
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kWidth; ++i) mask |= static_cast<uint32_t>(!(x[i] <= floor)) << i;
  return mask;
#endif
}

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
    for (uint32_t left = mask_above(x + i, floor); left != 0; left &= left - 1) {
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
