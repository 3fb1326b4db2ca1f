// LargeValues, which calibration adds to a network: it looks at every activation where it is made,
// and hands out the few that a high quantile is found among.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu_features.h"
#include "ort_abi.h"

namespace onnx_snn {

constexpr int kLanes = 16;  // values looked at together

// Activations [samples, channels / block, features, block] and one floor for each channel. Blocks
// are how onnxruntime's convolutions lay out channels, for vectors across them; the last block may
// end in values that are of no channel. A block of 1 is the plain layout.
struct Activations {
  const float* values;
  int64_t samples, channels, features, block;
  const float* floor;
};

// The floor of each of the next values, and a bit for each of those that are of a channel.
struct Lanes {
  float floor[kLanes];
  uint32_t used = 0;
};

// Looks at x[i], x[i + 1], ... up to `size`, kLanes at a time. Returns where it stopped, and a bit
// for each value there that is not at or below its floor; none at the end.
using LargeValuesScan = int64_t (*)(const float* x, int64_t i, int64_t size, const Lanes& lanes,
                                    uint32_t* above);

int64_t scan_plain(const float* x, int64_t i, int64_t size, const Lanes& lanes, uint32_t* above);
int64_t scan_avx2(const float* x, int64_t i, int64_t size, const Lanes& lanes, uint32_t* above);
int64_t scan_avx512(const float* x, int64_t i, int64_t size, const Lanes& lanes, uint32_t* above);

// For this machine; see required_instruction_set.
LargeValuesScan scan_of(InstructionSet set);

// A list that grows, but does not clear its memory first as std::vector does.
class KeyList {
 public:
  // Where to write up to `size` more.
  int64_t* reserve(size_t size);
  // Ends the list where the writing ended.
  void finish(const int64_t* end) { size_ = static_cast<size_t>(end - data_.get()); }

  const int64_t* begin() const { return data_.get(); }
  const int64_t* end() const { return data_.get() + size_; }
  size_t size() const { return size_; }

 private:
  std::unique_ptr<int64_t[]> data_;
  size_t size_ = 0, capacity_ = 0;
};

// What is not at or below its channel's floor, NaN too, in samples [begin, end), in the order of
// memory: channel << 32 | bits of the value.
KeyList find_large_values(const Activations& activations, LargeValuesScan scan, int64_t begin,
                          int64_t end);

// The operator as onnxruntime sees it:
//   LargeValues(x [N, C, ...] float32, floor [C] float32) -> (above [K] int64, count [] int64)
// count is the number of values of a channel. With the attribute block (1, 2, 4, 8 or 16), x is
// laid out in blocks of so many channels, and its axis 1 is rounded up to whole blocks. The CPU
// runs it.
const ort_abi::CustomOp* large_values_op();

}  // namespace onnx_snn
