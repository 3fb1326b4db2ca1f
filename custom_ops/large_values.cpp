#include "large_values.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#ifdef _MSC_VER
#include <intrin.h>
#endif

namespace onnx_snn {
namespace {

Lanes lanes_of(const Activations& a, int64_t first_channel) {
  Lanes lanes;
  for (int i = 0; i < kLanes; ++i) {
    const int64_t channel = first_channel + i % a.block;
    lanes.floor[i] = channel < a.channels ? a.floor[channel] : 0.0f;
    lanes.used |= static_cast<uint32_t>(channel < a.channels) << i;
  }
  return lanes;
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

// One block of channels of one sample. Writes what is above its floor; returns the new end.
int64_t* find_in_row(const float* x, int64_t size, LargeValuesScan scan, const Lanes& lanes,
                     int64_t first_channel, int64_t block, int64_t* end) {
  for (int64_t i = 0; i < size; i += kLanes) {
    uint32_t left;
    i = scan(x, i, size, lanes, &left);
    for (; left != 0; left &= left - 1) {
      const int lane = lowest_bit(left);
      end = keep(x[i + lane], first_channel + lane % block, end);
    }
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

LargeValuesScan scan_of(InstructionSet set) {
#ifdef ONNX_SNN_X86_KERNELS
  if (set >= InstructionSet::kAvx512) return scan_avx512;
  if (set == InstructionSet::kAvx2) return scan_avx2;
#endif
  static_cast<void>(set);
  return scan_plain;
}

KeyList find_large_values(const Activations& a, LargeValuesScan scan, int64_t begin, int64_t end) {
  const int64_t rows = (a.channels + a.block - 1) / a.block, size = a.features * a.block;
  std::vector<Lanes> lanes;
  for (int64_t row = 0; row < rows; ++row) lanes.push_back(lanes_of(a, row * a.block));
  KeyList above;
  const float* x = a.values + begin * rows * size;
  for (int64_t sample = begin; sample < end; ++sample) {
    for (int64_t row = 0; row < rows; ++row, x += size) {
      int64_t* to = above.reserve(static_cast<size_t>(size));
      above.finish(find_in_row(x, size, scan, lanes[row], row * a.block, a.block, to));
    }
  }
  return above;
}

}  // namespace onnx_snn
