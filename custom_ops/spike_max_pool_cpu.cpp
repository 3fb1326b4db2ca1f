// Plain code: it lets a network written for a GPU run on a CPU too. A channel of a sample is a
// tile, whose counts stay in the cache while all steps run.
#include "spike_max_pool_cpu.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "row_io.inl"
#include "tiles.h"

namespace onnx_snn {
namespace {

// The largest count of each window, [out_height, out_width].
template <typename Count>
void max_pool(const PoolShape& s, const Count* counts, Count* largest) {
  std::fill_n(largest, s.out_height * s.out_width, std::numeric_limits<Count>::lowest());
  for (int64_t row = 0; row < s.out_height; ++row, largest += s.out_width) {
    for (int64_t i = 0; i < s.kernel_height; ++i) {
      const int64_t y = row * s.stride_y - s.pad_top + i * s.dilation_y;
      if (y < 0 || y >= s.height) continue;
      for (int64_t j = 0; j < s.kernel_width; ++j) {
        const int64_t left = j * s.dilation_x - s.pad_left;  // what the first window sees
        int64_t column = left < 0 ? (s.stride_x - 1 - left) / s.stride_x : 0;
        const Count* from = counts + y * s.width + left;
        for (; column < s.out_width && left + column * s.stride_x < s.width; ++column) {
          largest[column] = std::max(largest[column], from[column * s.stride_x]);
        }
      }
    }
  }
}

template <typename T>
void pool_channel(const SpikeMaxPoolRun<T>& run, int64_t channel, void* memory) {
  using Count = typename SpikeMaxPoolRun<T>::Count;
  const PoolShape& s = run.shape;
  const int64_t size = s.height * s.width, out_size = s.out_height * s.out_width;
  Count* counts = static_cast<Count*>(memory);
  Count* row = counts + size;
  Count* before = row + size;
  Count* now = before + out_size;

  if (run.c == nullptr || run.c_is_scalar) {
    std::fill_n(counts, size, run.c == nullptr ? Count(0) : *run.c);
  } else {
    std::copy_n(run.c + channel * size, size, counts);
  }
  max_pool(s, counts, before);
  for (int64_t t = 0; t < s.steps; ++t) {
    const int64_t at = t * s.images * s.channels + channel;
    const Count* spikes = row_for_reading(run.x + at * size, size, row);
    for (int64_t i = 0; i < size; ++i) counts[i] += spikes[i];
    max_pool(s, counts, now);
    for (int64_t i = 0; i < out_size; ++i) before[i] = now[i] - before[i];
    write_row(before, out_size, run.s + at * out_size);
    std::swap(before, now);
  }
  if (run.c_next != nullptr) std::copy_n(counts, size, run.c_next + channel * size);
}

template <typename T>
void run_on_cpu(const SpikeMaxPoolRun<T>& run, const Parallel& parallel) {
  const PoolShape& s = run.shape;
  const int64_t channels = s.images * s.channels;
  if (channels == 0) return;
  const int64_t values = s.height * s.width + s.out_height * s.out_width;
  const int64_t bytes = 2 * values * static_cast<int64_t>(sizeof(*run.c));
  for_each_tile(channels, values * s.steps, bytes, parallel,
                [&](int64_t channel, void* memory) { pool_channel(run, channel, memory); });
}

}  // namespace

void run_spike_max_pool_cpu(const SpikeMaxPoolRun<float>& run, const Parallel& parallel) {
  run_on_cpu(run, parallel);
}
void run_spike_max_pool_cpu(const SpikeMaxPoolRun<Half>& run, const Parallel& parallel) {
  run_on_cpu(run, parallel);
}
void run_spike_max_pool_cpu(const SpikeMaxPoolRun<double>& run, const Parallel& parallel) {
  run_on_cpu(run, parallel);
}

}  // namespace onnx_snn
