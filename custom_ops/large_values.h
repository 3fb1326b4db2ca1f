// LargeValues, which calibration adds to a network: it looks at every activation where it is made,
// and hands out the few that a high quantile is found among.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "ort_abi.h"

namespace onnx_snn {

// Activations [samples, channels, features] and one floor for each channel.
struct Activations {
  const float* values;
  int64_t samples, channels, features;
  const float* floor;
};

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

// What is not at or below its channel's floor, NaN too, in samples [begin, end), in their order:
// channel << 32 | bits of the value.
KeyList find_large_values(const Activations& activations, int64_t begin, int64_t end);

// The operator as onnxruntime sees it:
//   LargeValues(x [N, C, ...] float32, floor [C] float32) -> (above [K] int64, count [] int64)
// count is the number of values of a channel. The CPU runs it.
const ort_abi::CustomOp* large_values_op();

}  // namespace onnx_snn
