// The CPU kernels of the pools of events, compiled once per instruction set, with internal linkage:
// see if_neuron_kernel.inl.
//
// A window is reduced along H first, for whole rows of the input, and then along W. Integers are as
// narrow as the values of the call allow, and the loops over channels, or over columns and channels
// together, are left to the compiler, which finds vectors in them.
#include <stdint.h>

#include "event_pool_cpu.h"

namespace onnx_snn {
namespace {

// Of a tile, along one axis.
struct Axis {
  int64_t out, outs;         // outputs: the first, and how many
  int64_t first;             // place of the input where the first window begins; in the padding < 0
  int64_t begin, seen, end;  // places in the input: [begin, seen) are under windows
  int64_t next;              // where the next tile begins: [begin, next) belong to this one
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

Axis axis_of(int64_t tile, int64_t tile_size, int64_t out_size, int64_t size, int64_t kernel,
             int64_t stride, int64_t pad) {
  Axis a;
  a.out = tile * tile_size;
  a.outs = smaller(tile_size, out_size - a.out);
  a.first = a.out * stride - pad;
  a.begin = larger(a.first, 0);
  a.seen = smaller(a.first + (a.outs - 1) * stride + kernel, size);
  a.next = a.out + a.outs == out_size ? size : larger(a.first + a.outs * stride, 0);
  a.end = larger(a.seen, a.next);
  return a;
}

struct Tile {
  const EventPoolCall& call;
  int64_t image;
  Axis rows, columns;
  int64_t channel, channels;

  // Places [begin, end) of the input that are under the window of output row `row` of the tile.
  int64_t window_begin(int64_t row) const {
    return larger(rows.first + row * call.shape.stride_y, 0);
  }
  int64_t window_end(int64_t row) const {
    const PoolShape& s = call.shape;
    return smaller(rows.first + row * s.stride_y + s.kernel_height, s.height);
  }
  // Where a row of the tile begins in x or in counts, and in y.
  int64_t in_at(int64_t image_row, int64_t row) const {
    const PoolShape& s = call.shape;
    return ((image_row * s.height + row) * s.width + columns.begin) * s.channels + channel;
  }
  int64_t out_at(int64_t image_row, int64_t row) const {
    const PoolShape& s = call.shape;
    return ((image_row * s.out_height + rows.out + row) * s.out_width + columns.out) * s.channels +
           channel;
  }
  // Calls body(place in a row of a tensor, place in a row of the tile, size) for runs of values
  // that are next to each other in both.
  template <typename Body>
  void for_runs(int64_t pixels, const Body& body) const {
    const int64_t all = call.shape.channels;
    if (channels == all) {
      body(int64_t{0}, int64_t{0}, pixels * channels);
      return;
    }
    for (int64_t p = 0; p < pixels; ++p) body(p * all, p * channels, channels);
  }
};

Tile tile_of(const EventPoolCall& call, int64_t index) {
  const PoolShape& s = call.shape;
  const PoolTiling& t = call.tiling;
  const int64_t channel = index % t.channel_tiles * t.channels;
  index /= t.channel_tiles;
  const int64_t column = index % t.column_tiles;
  index /= t.column_tiles;
  const int64_t row = index % t.row_tiles;
  return {call,
          index / t.row_tiles,
          axis_of(row, t.rows, s.out_height, s.height, s.kernel_height, s.stride_y, s.pad_top),
          axis_of(column, t.columns, s.out_width, s.width, s.kernel_width, s.stride_x, s.pad_left),
          channel,
          smaller(t.channels, s.channels - channel)};
}

// What a tile computes with.
template <typename Value>
struct Memory {
  Value* counts;  // [rows, columns, channels] of the input
  Value* row;     // reduced along H: [columns with padding, channels]
  Value* now;     // the pool: a row of the output
  Value* before;  // EventMaxPool: the pool before the step, [rows, columns, channels] of the output

  Memory(const PoolTiling& t, void* memory) {
    const uintptr_t line = 64;
    const uintptr_t start = (reinterpret_cast<uintptr_t>(memory) + line - 1) / line * line;
    counts = reinterpret_cast<Value*>(start);
    row = counts + t.count_values;
    now = row + t.row_values;
    before = now + t.out_values;
  }
};

struct Max {
  template <typename Value>
  static Value of(Value a, Value b) {
    return a > b ? a : b;
  }
};
struct Sum {
  template <typename Value>
  static Value of(Value a, Value b) {
    return static_cast<Value>(a + b);
  }
};

// to[i] = from[i] op from[step + i] op ... of so many terms.
template <typename Op, typename From, typename To>
inline void reduce(const From* from, int64_t step, int64_t terms, int64_t size, To* to) {
  if (terms == 1) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) to[i] = static_cast<To>(from[i]);
    return;
  }
  const From* const b = from + step;
  if (terms == 2) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) to[i] = Op::template of<To>(from[i], b[i]);
    return;
  }
  const From* const c = b + step;
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    to[i] = Op::template of<To>(Op::template of<To>(from[i], b[i]), c[i]);
  }
  for (int64_t term = 3; term < terms; ++term) {
    const From* const next = from + term * step;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) to[i] = Op::template of<To>(to[i], next[i]);
  }
}

// A row reduced along H to a row of the pool.
template <typename Op, typename Value>
void reduce_row(const Tile& tile, const Value* row, Value* now) {
  const PoolShape& s = tile.call.shape;
  const int64_t pixels = tile.columns.outs, channels = tile.channels;
  if (s.stride_x == 1) {
    reduce<Op>(row, channels, s.kernel_width, pixels * channels, now);
    return;
  }
  for (int64_t p = 0; p < pixels; ++p) {
    const Value* const from = row + p * s.stride_x * channels;
    reduce<Op>(from, channels, s.kernel_width, channels, now + p * channels);
  }
}

// Where the first column of the input lies in a row with padding, which is filled with `outside`.
template <typename Value>
Value* pad_row(const Tile& tile, Value outside, Value* row) {
  const PoolShape& s = tile.call.shape;
  const int64_t columns = (tile.columns.outs - 1) * s.stride_x + s.kernel_width;
  for (int64_t i = 0; i < columns * tile.channels; ++i) row[i] = outside;
  return row + (tile.columns.begin - tile.columns.first) * tile.channels;
}

inline int32_t to_count(float value) {
  constexpr float most = kMostCount;
  const float above = value > -most ? value : -most;  // NaN becomes -most
  return static_cast<int32_t>(above < most ? above : most);
}

// False where counts may become too large for the type.
template <typename Count>
bool read_counts(const Tile& tile, Count* counts) {
  constexpr int64_t most_short = 32767, most_event = 128;
  const EventPoolCall& call = tile.call;
  const bool is_short = sizeof(Count) == sizeof(int16_t);
  if (is_short && call.shape.steps * most_event > most_short) return false;
  const float most = static_cast<float>(most_short - call.shape.steps * most_event);
  const int64_t columns = tile.columns.end - tile.columns.begin, size = columns * tile.channels;
  const int64_t rows = tile.rows.end - tile.rows.begin;
  if (call.c == nullptr || call.c_is_scalar) {
    const float value = call.c == nullptr ? 0.0f : *call.c;
    if (is_short && !(value >= -most && value <= most)) return false;
    for (int64_t i = 0; i < rows * size; ++i) counts[i] = static_cast<Count>(to_count(value));
    return true;
  }
  bool fits = true;
  for (int64_t row = 0; row < rows; ++row) {
    const float* const from = call.c + tile.in_at(tile.image, tile.rows.begin + row);
    tile.for_runs(columns, [&](int64_t in, int64_t at, int64_t run) {
      Count* const to = counts + row * size + at;
      int32_t others = 0;
#pragma omp simd reduction(| : others)
      for (int64_t i = 0; i < run; ++i) {
        others |= !(from[in + i] >= -most && from[in + i] <= most);
        to[i] = static_cast<Count>(to_count(from[in + i]));
      }
      fits = fits && others == 0;
    });
    if (is_short && !fits) return false;
  }
  return true;
}

template <typename Count>
void write_counts(const Tile& tile, const Count* counts) {
  const int64_t size = (tile.columns.end - tile.columns.begin) * tile.channels;
  for (int64_t row = tile.rows.begin; row < tile.rows.next; ++row) {
    float* const to = tile.call.c_next + tile.in_at(tile.image, row);
    const Count* const from = counts + (row - tile.rows.begin) * size;
    tile.for_runs(tile.columns.next - tile.columns.begin,
                  [&](int64_t out, int64_t at, int64_t run) {
#pragma omp simd
                    for (int64_t i = 0; i < run; ++i) {
                      to[out + i] = static_cast<float>(from[at + i]);
                    }
                  });
  }
}

// The largest counts under the windows of output row `row` of the tile.
template <typename Count>
void find_largest(const Tile& tile, int64_t row, const Count* counts, Count* reduced, Count* inner,
                  Count* now) {
  const int64_t size = (tile.columns.end - tile.columns.begin) * tile.channels;
  const int64_t seen = (tile.columns.seen - tile.columns.begin) * tile.channels;
  const int64_t begin = tile.window_begin(row), end = tile.window_end(row);
  const Count* const from = counts + (begin - tile.rows.begin) * size;
  reduce<Max>(from, size, end - begin, seen, inner);
  reduce_row<Max>(tile, reduced, now);
}

template <typename Count>
bool max_pool(const Tile& tile, const Memory<Count>& memory) {
  if (!read_counts(tile, memory.counts)) return false;
  const EventPoolCall& call = tile.call;
  const int64_t columns = tile.columns.end - tile.columns.begin, size = columns * tile.channels;
  const int64_t out_size = tile.columns.outs * tile.channels;
  constexpr int64_t bits = 8 * sizeof(Count);
  const Count least = static_cast<Count>(-(int64_t{1} << (bits - 1)));
  Count* const inner = pad_row(tile, least, memory.row);
  for (int64_t row = 0; row < tile.rows.outs; ++row) {
    Count* const before = memory.before + row * out_size;
    find_largest(tile, row, memory.counts, memory.row, inner, before);
  }

  for (int64_t step = 0; step < call.shape.steps; ++step) {
    const int64_t image_row = step * call.shape.images + tile.image;
    int64_t added = tile.rows.begin;
    const auto add_up_to = [&](int64_t end) {
      for (; added < end; ++added) {
        const int8_t* const from = call.x + tile.in_at(image_row, added);
        Count* const counts = memory.counts + (added - tile.rows.begin) * size;
        tile.for_runs(columns, [&](int64_t in, int64_t at, int64_t run) {
          const int8_t* const events = from + in;
          Count* const to = counts + at;
#pragma omp simd
          for (int64_t i = 0; i < run; ++i) to[i] = static_cast<Count>(to[i] + events[i]);
        });
      }
    };
    for (int64_t row = 0; row < tile.rows.outs; ++row) {
      add_up_to(tile.window_end(row));
      find_largest(tile, row, memory.counts, memory.row, inner, memory.now);
      int8_t* const y = call.y + tile.out_at(image_row, row);
      tile.for_runs(tile.columns.outs, [&](int64_t out, int64_t at, int64_t run) {
        const Count* const now = memory.now + at;
        Count* const before = memory.before + row * out_size + at;
        int8_t* const to = y + out;
#pragma omp simd
        for (int64_t i = 0; i < run; ++i) {
          to[i] = static_cast<int8_t>(now[i] - before[i]);
          before[i] = now[i];
        }
      });
    }
    add_up_to(tile.rows.end);
  }
  if (call.c_next != nullptr) write_counts(tile, memory.counts);
  return true;
}

void max_pool_tile(const EventPoolCall& call, int64_t index, void* memory) {
  const Tile tile = tile_of(call, index);
  if (max_pool(tile, Memory<int16_t>(call.tiling, memory))) return;
  max_pool(tile, Memory<int32_t>(call.tiling, memory));
}

template <typename Value>
void sum_pool(const Tile& tile, const Memory<Value>& memory) {
  const EventPoolCall& call = tile.call;
  const PoolShape& s = call.shape;
  Value* const inner = pad_row(tile, Value{0}, memory.row);
  for (int64_t row = 0; row < tile.rows.outs; ++row) {
    const int64_t begin = tile.window_begin(row), end = tile.window_end(row);
    const int8_t* const x = call.x + tile.in_at(tile.image, begin);
    tile.for_runs(tile.columns.seen - tile.columns.begin, [&](int64_t in, int64_t at, int64_t run) {
      reduce<Sum>(x + in, s.width * s.channels, end - begin, run, inner + at);
    });
    reduce_row<Sum>(tile, memory.row, memory.now);
    int8_t* const y = call.y + tile.out_at(tile.image, row);
    tile.for_runs(tile.columns.outs, [&](int64_t out, int64_t at, int64_t run) {
      const Value* const now = memory.now + at;
      int8_t* const to = y + out;
#pragma omp simd
      for (int64_t i = 0; i < run; ++i) {
        const Value least = now[i] > -128 ? now[i] : static_cast<Value>(-128);
        to[i] = static_cast<int8_t>(least < 127 ? least : static_cast<Value>(127));
      }
    });
  }
}

void sum_pool_tile(const EventPoolCall& call, int64_t index, void* memory) {
  const PoolShape& s = call.shape;
  const Tile tile = tile_of(call, index);
  const int64_t window = smaller(s.kernel_height, s.height) * smaller(s.kernel_width, s.width);
  if (window <= 255) {
    sum_pool(tile, Memory<int16_t>(call.tiling, memory));
  } else {
    sum_pool(tile, Memory<int32_t>(call.tiling, memory));
  }
}

}  // namespace

const EventPoolKernels ONNX_SNN_KERNELS = {max_pool_tile, sum_pool_tile};

}  // namespace onnx_snn
