#include "event_pool_cpu.h"

#include <algorithm>

#include "tiles.h"

namespace onnx_snn {
namespace {

int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

// Places of the input, along an axis, that so many outputs see, and those up to the next outputs or
// to the end.
int64_t reach(int64_t outputs, int64_t kernel, int64_t stride, int64_t size) {
  return std::min((outputs - 1) * stride + kernel + stride - 1, size);
}

// Tiles see what is around them too, so that large ones read the least; but they should fit into
// the L2 cache, and there should be some for every thread.
PoolTiling choose_tiling(const PoolShape& s) {
  constexpr int64_t kMost = 1 << 16, kLeast = 1 << 14, kTasks = 32;
  constexpr int64_t kLine = 64;  // channels that a cache line holds
  const int64_t values = s.images * s.height * s.width * s.channels;
  const int64_t budget = std::min(std::max(values / kTasks, kLeast), kMost);

  PoolTiling t = {};
  t.rows = std::min<int64_t>(s.out_height, 4);
  t.columns = s.out_width;
  t.channels = s.channels;
  const auto size = [&] {
    return reach(t.rows, s.kernel_height, s.stride_y, s.height) *
           reach(t.columns, s.kernel_width, s.stride_x, s.width) * t.channels;
  };
  const auto halve_channels = [&] { t.channels = parts(t.channels, 2 * kLine) * kLine; };
  while (size() > budget) {
    if (t.channels > 4 * kLine) {
      halve_channels();
    } else if (t.columns > 8) {
      t.columns = parts(t.columns, 2);
    } else if (t.rows > 1) {
      t.rows = parts(t.rows, 2);
    } else if (t.channels > kLine) {
      halve_channels();
    } else if (t.columns > 1) {
      t.columns = parts(t.columns, 2);
    } else {
      break;
    }
  }
  while (t.rows < s.out_height && size() <= budget) ++t.rows;
  if (t.rows > 1 && size() > budget) --t.rows;
  t.row_tiles = parts(s.out_height, t.rows);
  t.column_tiles = parts(s.out_width, t.columns);
  t.channel_tiles = parts(s.channels, t.channels);
  t.rows = parts(s.out_height, t.row_tiles);  // tiles of one size
  t.columns = parts(s.out_width, t.column_tiles);

  const auto lines = [](int64_t n) { return parts(n, kLine) * kLine; };
  t.count_values = lines(size());
  t.row_values = lines(((t.columns - 1) * s.stride_x + s.kernel_width) * t.channels);
  t.out_values = lines(t.columns * t.channels);
  const int64_t all = t.count_values + t.row_values + (1 + t.rows) * t.out_values;
  t.bytes = all * static_cast<int64_t>(sizeof(int32_t)) + kLine;
  return t;
}

}  // namespace

const EventPoolKernels& event_pool_kernels(InstructionSet set) {
#ifdef ONNX_SNN_X86_KERNELS
  if (set >= InstructionSet::kAvx512) return kEventPoolAvx512;
  if (set == InstructionSet::kAvx2) return kEventPoolAvx2;
#endif
  static_cast<void>(set);
  return kEventPoolPlain;
}

void run_event_pool(PoolKernel kernel, EventPoolCall call, const Parallel& parallel) {
  const PoolShape& s = call.shape;
  if (s.images == 0 || s.channels == 0) return;
  call.tiling = choose_tiling(s);
  const PoolTiling& t = call.tiling;
  const int64_t tiles = s.images * t.row_tiles * t.column_tiles * t.channel_tiles;
  for_each_tile(tiles, t.count_values * s.steps, t.bytes, parallel,
                [&](int64_t tile, void* memory) { kernel(call, tile, memory); });
}

}  // namespace onnx_snn
