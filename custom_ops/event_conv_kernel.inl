// The CPU kernels of EventConv, compiled once per instruction set, with internal linkage: see
// if_neuron_kernel.inl.
//
// A tile is a few output pixels of a row and a block of output channels, whose membrane stays in
// the L1 cache while all steps run. The currents of a pixel are in registers while the weights of
// its events are added; those under one kernel row are one run of the list of an input row.
#include "event_conv_cpu.h"
#include "event_conv_vector.inl"
#include "if_neuron_block.inl"
#if defined(__AMX_INT8__)
#include "event_conv_tiles.inl"
#endif

namespace onnx_snn {
namespace {

int64_t count(const int8_t* x, int64_t size) {
  int64_t active = 0;
  for (int64_t i = 0; i < size; ++i) active += x[i] != 0;
  return active;
}

void write_values(const ConvShape& s, const int8_t* x, float* to) {
  const int64_t left = s.pad_left * s.channels, size = s.width * s.channels;
  const int64_t end = padded_width(s) * s.channels;
  for (int64_t i = 0; i < left; ++i) to[i] = 0;
  for (int64_t i = 0; i < size; ++i) to[left + i] = static_cast<float>(x[i]);
  for (int64_t i = left + size; i < end; ++i) to[i] = 0;
}

// Returns the end of what it has written.
int32_t* list_row(const ConvShape& s, const int8_t* x, int32_t* words) {
  const int64_t channels = s.group_channels();
  int32_t* offset = words + 1;
  int32_t* const entries = offset + s.groups * (s.width + 1);
  int32_t* end = entries;
  bool others = false;
  for (int64_t group = 0; group < s.groups; ++group) {
    for (int64_t pixel = 0; pixel < s.width; ++pixel) {
      *offset++ = static_cast<int32_t>(end - entries);
      const int8_t* from = x + pixel * s.channels + group * channels;
      end = list_events(from, channels, pixel * channels, end, &others);
    }
    *offset++ = static_cast<int32_t>(end - entries);
  }
  words[0] = !others;
  if (!others) return end;
  float* value = reinterpret_cast<float*>(end);
  const int32_t* entry = entries;
  offset = words + 1;
  for (int64_t group = 0; group < s.groups; ++group, ++offset) {
    for (int64_t pixel = 0; pixel < s.width; ++pixel) {
      const int32_t* const stop = entries + *++offset;
      const int8_t* from = x + pixel * s.channels + (group - pixel) * channels;
      for (; entry < stop; ++entry) *value++ = static_cast<float>(from[*entry]);
    }
  }
  return end + (end - entries);
}

void list_rows(const EventConvCall& call, const ConvSource& source, int64_t index) {
  const ConvShape& s = source.shape;
  int32_t* const words = source.rows + index * source.list_size;
  const int64_t first = index % row_groups(s) * kRowsTogether;
  index /= row_groups(s);
  const int64_t step = call.first_step + index % call.step_count;
  const int64_t image = call.first_image + index / call.step_count;
  const int8_t* x = source.x + (step * s.images + image) * s.height * s.width * s.channels;
  int32_t* to = words + kRowsTogether;
  for (int64_t row = 0; row < kRowsTogether && first + row < s.height; ++row) {
    if (!is_read(s, first + row)) continue;
    words[row] = static_cast<int32_t>(to - words);
    const int8_t* from = x + (first + row) * s.width * s.channels;
    if (source.form == Form::kValues) {
      write_values(s, from, reinterpret_cast<float*>(to));
      to += padded_width(s) * s.channels;
    } else {
      to = list_row(s, from, to);
    }
  }
}

// A tile as one source has it, at one step.
struct Tile {
  const EventConvCall& call;
  const ConvSource& source;
  const ConvBlock& block;
  int64_t image, y, x, pixels;  // of the output
  int64_t step;                 // of the part

  const int32_t* row(int64_t input_y) const {
    const int64_t lists = (image * call.step_count + step) * row_groups(source.shape);
    const int32_t* list = source.rows + (lists + input_y / kRowsTogether) * source.list_size;
    return list + list[input_y % kRowsTogether];
  }
};

// What is under one row of the kernel, in one row of the input.
struct Events {
  const int32_t* offsets;
  const int32_t* entries;
  const float* values;  // null: all are 1
  int64_t first_weight;
};

Events events_of(const Tile& tile, int64_t kernel_y, int64_t input_y) {
  const ConvShape& s = tile.source.shape;
  const int32_t* words = tile.row(input_y);
  const int32_t* offsets = words + 1;
  const int32_t* entries = offsets + s.groups * (s.width + 1);
  const float* values = reinterpret_cast<const float*>(entries + entries[-1]);
  return {offsets + tile.block.group * (s.width + 1), entries, words[0] != 0 ? nullptr : values,
          kernel_y * s.kernel_width * s.group_channels()};
}

// Asks for a row of the next step, at least the beginning of it.
inline void prefetch_list(const Tile& tile, int64_t input_y) {
  constexpr int kLine = 16, kLines = 8;
  Tile next = tile;
  ++next.step;
  const int32_t* words = next.row(input_y);
  for (int i = 0; i < kLines; ++i) prefetch(words + i * kLine);
}

inline int64_t clamp(int64_t value, int64_t most) {
  return value < 0 ? 0 : value > most ? most : value;
}

constexpr int64_t kMostQueued = 512;  // events of a pixel
constexpr int64_t kCopied = 16;       // at a time

// Events of P pixels whose weights are to be added: rows of the weights, and values. Collected,
// they need one loop and so one end of a loop, which the processor guesses wrong, instead of one
// for each row of the kernel and each pixel; and sums of several pixels do not wait for one
// another.
template <int P, bool Unit>
struct Queue {
  int32_t rows[P][kMostQueued + kCopied];
  float values[Unit ? 1 : P][kMostQueued + kCopied];
  int64_t size[P];

  int64_t longest() const {
    int64_t most = 0;
    for (int p = 0; p < P; ++p) most = size[p] > most ? size[p] : most;
    return most;
  }

  void append(int p, const Events& events, int64_t begin, int64_t count, int64_t first) {
    const int64_t at = size[p];
    size[p] += count;
    int64_t i = 0;
    do {
      copy_shifted(events.entries + begin + i, static_cast<int32_t>(first), rows[p] + at + i);
      if (!Unit) {
        const float* from = events.values + begin + i;
        float* to = values[p] + at + i;
        for (int k = 0; k < kCopied; ++k) to[k] = events.values == nullptr ? 1.0f : from[k];
      }
      i += kCopied;
    } while (i < count);
  }

  // Makes all as long as the longest, with 0 times the row of zeros.
  void level(int64_t most, int32_t zeros) {
    for (int p = 0; p < P; ++p) {
      for (int64_t i = size[p]; i < most; i += kCopied) {
        for (int k = 0; k < kCopied; ++k) {
          rows[p][i + k] = zeros;
          if (!Unit) values[p][i + k] = 0;
        }
      }
    }
  }
};

// Adds what is queued to sums[P * V], and empties the queue.
template <int P, int V, bool Unit>
inline void add_queued(Queue<P, Unit>* queue, const float* weights, int32_t zeros, Vector* sums) {
  constexpr int64_t kWidth = V * Vector::size;
  const int64_t most = queue->longest();
  if (P > 1) queue->level(most, zeros);
  Vector sum[P][V];
  for (int p = 0; p < P; ++p) {
    for (int k = 0; k < V; ++k) sum[p][k] = sums[p * V + k];
  }
  for (int64_t i = 0; i < most; ++i) {
    for (int p = 0; p < P; ++p) {
      const float* row = weights + queue->rows[p][i] * kWidth;
      if (Unit) {
        for (int k = 0; k < V; ++k) sum[p][k] = add(sum[p][k], load(row + k * Vector::size));
      } else {
        const Vector value = all(queue->values[p][i]);
        for (int k = 0; k < V; ++k) {
          sum[p][k] = multiply_add(value, load(row + k * Vector::size), sum[p][k]);
        }
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int k = 0; k < V; ++k) sums[p * V + k] = sum[p][k];
    queue->size[p] = 0;
  }
}

// Rows of the kernel that are looked up in one go for all pixels of a tile.
constexpr int kRowsAtOnce = 8;

struct RowsOfEvents {
  Events rows[kRowsAtOnce];
  int count;
  bool is_unit;
};

// The currents of P pixels: what these rows add to `start`, whose pixels are `start_step` apart.
template <int P, int V, bool Unit>
void add_up_pixels(const Tile& tile, const RowsOfEvents& from, int64_t first_pixel,
                   const float* start, int64_t start_step, float* currents) {
  constexpr int64_t kWidth = V * Vector::size;
  const ConvShape& s = tile.source.shape;
  const int64_t channels = s.group_channels();
  const int32_t zeros =
      static_cast<int32_t>(s.kernel_height * s.kernel_width * channels);  // behind the weights
  const bool is_dilated = s.dilation_x != 1;
  const int64_t runs = is_dilated ? s.kernel_width : 1;
  const int64_t run_width = is_dilated ? 1 : s.kernel_width;
  Queue<P, Unit> queue;
  Vector sums[P * V];
  for (int p = 0; p < P; ++p) {
    queue.size[p] = 0;
    for (int k = 0; k < V; ++k) {
      // -0 as a start would show where no event follows.
      const float* from_start = start + (first_pixel + p) * start_step + k * Vector::size;
      sums[p * V + k] = add(load(from_start), all(0.0f));
    }
  }
  for (int r = 0; r < from.count; ++r) {
    const Events& events = from.rows[r];
    for (int64_t run = 0; run < runs; ++run) {
      int64_t begin[P], size[P], longest = 0;
      const int64_t first_x = (tile.x + first_pixel) * s.stride_x - s.pad_left + run * s.dilation_x;
      for (int p = 0; p < P; ++p) {
        const int64_t x = first_x + p * s.stride_x;
        begin[p] = events.offsets[clamp(x, s.width)];
        size[p] = events.offsets[clamp(x + run_width, s.width)] - begin[p];
        longest = size[p] > longest ? size[p] : longest;
      }
      for (int64_t done = 0; done < longest; done += kMostQueued) {
        const int64_t left = longest - done, most = left < kMostQueued ? left : kMostQueued;
        if (queue.longest() + most > kMostQueued) {
          add_queued<P, V, Unit>(&queue, tile.block.weights, zeros, sums);
        }
        for (int p = 0; p < P; ++p) {
          const int64_t x = first_x + p * s.stride_x;
          queue.append(p, events, begin[p] + done, clamp(size[p] - done, most),
                       events.first_weight + (run - x) * channels);
        }
      }
    }
  }
  add_queued<P, V, Unit>(&queue, tile.block.weights, zeros, sums);
  for (int p = 0; p < P; ++p) {
    for (int k = 0; k < V; ++k) {
      store(sums[p * V + k], currents + (first_pixel + p) * kWidth + k * Vector::size);
    }
  }
}

// The currents [pixels, width] of a tile, out of lists of events: these added to `start`, whose
// pixels are `start_step` apart; it may be `currents`.
template <int P, int V>
void add_up_events(const Tile& tile, const float* start, int64_t start_step, float* currents) {
  const ConvShape& s = tile.source.shape;
  for (int64_t first = 0; first < s.kernel_height; first += kRowsAtOnce) {
    RowsOfEvents from;
    from.count = 0;
    from.is_unit = true;
    for (int64_t k = first; k < s.kernel_height && k < first + kRowsAtOnce; ++k) {
      const int64_t y = tile.y * s.stride_y - s.pad_top + k * s.dilation_y;
      if (y < 0 || y >= s.height) continue;
      if (tile.step + 1 < tile.call.step_count) prefetch_list(tile, y);
      const Events events = events_of(tile, k, y);
      from.is_unit &= events.values == nullptr;
      from.rows[from.count++] = events;
    }
    const auto several = from.is_unit ? add_up_pixels<P, V, true> : add_up_pixels<P, V, false>;
    const auto one = from.is_unit ? add_up_pixels<1, V, true> : add_up_pixels<1, V, false>;
    int64_t pixel = 0;
    for (; pixel + P <= tile.pixels; pixel += P) {
      several(tile, from, pixel, start, start_step, currents);
    }
    for (; pixel < tile.pixels; ++pixel) one(tile, from, pixel, start, start_step, currents);
    start = currents;
    start_step = V * Vector::size;
  }
}

// The currents of P pixels, V vectors of each, out of all values of the rows.
template <int V, int P>
void add_up_values(const Tile& tile, int64_t first_pixel, int64_t first_channel, const float* start,
                   int64_t start_step, float* currents) {
  const ConvShape& s = tile.source.shape;
  const int64_t channels = s.group_channels(), width = tile.block.width;
  const int64_t pixel_step = s.stride_x * s.channels;
  Vector sum[P][V];
  for (int p = 0; p < P; ++p) {
    const float* from = start + (first_pixel + p) * start_step + first_channel;
    for (int k = 0; k < V; ++k) sum[p][k] = add(load(from + k * Vector::size), all(0.0f));
  }
  for (int64_t kernel_y = 0; kernel_y < s.kernel_height; ++kernel_y) {
    const int64_t y = tile.y * s.stride_y - s.pad_top + kernel_y * s.dilation_y;
    if (y < 0 || y >= s.height) continue;
    const float* row = reinterpret_cast<const float*>(tile.row(y)) +
                       (tile.x + first_pixel) * pixel_step + tile.block.group * channels;
    const float* weights =
        tile.block.weights + first_channel + kernel_y * s.kernel_width * channels * width;
    for (int64_t kernel_x = 0; kernel_x < s.kernel_width; ++kernel_x) {
      const float* values = row + kernel_x * s.dilation_x * s.channels;
      for (int64_t c = 0; c < channels; ++c, weights += width) {
        Vector w[V];
        for (int k = 0; k < V; ++k) w[k] = load(weights + k * Vector::size);
        for (int p = 0; p < P; ++p) {
          const Vector value = all(values[p * pixel_step + c]);
          for (int k = 0; k < V; ++k) sum[p][k] = multiply_add(value, w[k], sum[p][k]);
        }
      }
    }
  }
  float* to = currents + first_pixel * width + first_channel;
  for (int p = 0; p < P; ++p) {
    for (int k = 0; k < V; ++k) store(sum[p][k], to + p * width + k * Vector::size);
  }
}

template <int V>
void add_up_values(const Tile& tile, int64_t first_channel, const float* start, int64_t start_step,
                   float* currents) {
  using Body = void (*)(const Tile&, int64_t, int64_t, const float*, int64_t, float*);
  constexpr Body kBodies[] = {add_up_values<V, 1>, add_up_values<V, 2>, add_up_values<V, 3>,
                              add_up_values<V, 4>, add_up_values<V, 5>, add_up_values<V, 6>};
  constexpr int64_t kMost = sizeof kBodies / sizeof *kBodies;
  int64_t left = tile.pixels;
  for (int64_t parts = (left + kMost - 1) / kMost; parts > 0; --parts) {
    const int64_t pixels = (left + parts - 1) / parts;
    kBodies[pixels - 1](tile, tile.pixels - left, first_channel, start, start_step, currents);
    left -= pixels;
  }
}

void add_up_all_values(const Tile& tile, const float* start, int64_t start_step, float* currents) {
  constexpr int64_t kStep = kDenseVectors * Vector::size;
  for (int64_t channel = 0; channel < tile.block.width; channel += kStep) {
    const int64_t left = tile.block.width - channel;
#if defined(__AVX512F__)
    if (left == 16) {
      add_up_values<1>(tile, channel, start, start_step, currents);
    } else if (left == 32) {
      add_up_values<2>(tile, channel, start, start_step, currents);
    } else if (left == 48) {
      add_up_values<3>(tile, channel, start, start_step, currents);
    } else {
      add_up_values<4>(tile, channel, start, start_step, currents);
    }
#else
    static_cast<void>(left);
    add_up_values<kDenseVectors>(tile, channel, start, start_step, currents);
#endif
  }
}

// The events [height, width, channels] of the image of a tile.
inline const int8_t* image_of(const Tile& tile) {
  const EventConvCall& call = tile.call;
  const ConvShape& s = tile.source.shape;
  const int64_t rows = (call.first_step + tile.step) * s.images + call.first_image + tile.image;
  return tile.source.x + rows * s.height * s.width * s.channels;
}

// Adds events times a factor for each channel: a kernel of 1x1 without padding. For full blocks.
void add_scaled_events(const Tile& tile, float* currents) {
  const ConvShape& s = tile.source.shape;
  const int64_t pixel = tile.y * s.stride_y * s.width + tile.x * s.stride_x;
  const int8_t* values = image_of(tile) + tile.block.first_channel + pixel * s.channels;
  for (int64_t p = 0; p < tile.pixels; ++p, values += s.stride_x * s.channels) {
    for (int64_t c = 0; c < tile.block.width; c += Vector::size, currents += Vector::size) {
      const Vector factor = load(tile.block.weights + c);
      store(multiply_add(load(values + c), factor, load(currents)), currents);
    }
  }
}

// The currents where every output has an input channel of its own: dense, the channels abreast.
void add_up_channels(const Tile& tile, const float* start, int64_t start_step, float* currents) {
  const ConvShape& s = tile.source.shape;
  const int64_t width = tile.block.width;
  if (start == currents && tile.block.channels == width) {  // a shortcut
    return add_scaled_events(tile, currents);
  }
  const int8_t* image = image_of(tile) + tile.block.first_channel;
  for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
    const float* from = start + pixel * start_step;
    float* sum = currents + pixel * width;
    if (from != sum) {
      for (int64_t c = 0; c < width; ++c) sum[c] = from[c] + 0.0f;
    }
    for (int64_t kernel_y = 0; kernel_y < s.kernel_height; ++kernel_y) {
      const int64_t y = tile.y * s.stride_y - s.pad_top + kernel_y * s.dilation_y;
      if (y < 0 || y >= s.height) continue;
      for (int64_t kernel_x = 0; kernel_x < s.kernel_width; ++kernel_x) {
        const int64_t x = (tile.x + pixel) * s.stride_x - s.pad_left + kernel_x * s.dilation_x;
        if (x < 0 || x >= s.width) continue;
        const int8_t* values = image + (y * s.width + x) * s.channels;
        const float* weights = tile.block.weights + (kernel_y * s.kernel_width + kernel_x) * width;
        int64_t c = 0;
        for (; c + 16 <= tile.block.channels; c += 16) {
          for (int64_t k = c; k < c + 16; k += Vector::size) {
            store(multiply_add(load(values + k), load(weights + k), load(sum + k)), sum + k);
          }
        }
        if (c == tile.block.channels) continue;
        int8_t rest[16] = {};
        for (int64_t k = c; k < tile.block.channels; ++k) rest[k - c] = values[k];
        for (int64_t k = 0; k < 16; k += Vector::size) {
          const Vector product =
              multiply_add(load(rest + k), load(weights + c + k), load(sum + c + k));
          store(product, sum + c + k);
        }
      }
    }
  }
}

#if defined(__AMX_INT8__)

}  // namespace
}  // namespace onnx_snn

#include "event_conv_tile_neurons.inl"

namespace onnx_snn {
namespace {

#else

constexpr bool kHasTiles = false;

// None of these is ever called.
struct Neurons;
using StepNeurons = void (*)(const Neurons& at, const Limits<float>& limits);
StepNeurons choose_neurons(const IFNeuronAttributes&, bool) { return nullptr; }
void write_cells(const EventConvCall&, const ConvSource&, int64_t) {}
void add_up_tiles(const Tile&, int64_t, const float*, int64_t, float*) {}
bool has_tile_neurons(const EventConvCall&, const ConvBlock&) { return false; }
void run_tile_neurons(const Tile&, const Tile&, int64_t, StepNeurons, const Limits<float>&, float*,
                      float*, int8_t*) {}

#endif

using AddUp = void (*)(const Tile& tile, const float* start, int64_t start_step, float* currents);

// null: the form of tiles.
AddUp choose_add_up(const ConvSource& source, int64_t width) {
  if (source.form == Form::kTiles) return nullptr;
  if (source.form == Form::kChannels) return add_up_channels;
  if (source.form == Form::kValues) return add_up_all_values;
  constexpr int kStep = kBlockStep / Vector::size;
  switch (width / kBlockStep) {
    case 1:
      return add_up_events<kPixelsNarrow, kStep>;
    case 2:
      return add_up_events<kPixelsNarrow / 2, 2 * kStep>;
#if defined(__AVX2__)
    case 3:
      return add_up_events<kPixels, 3 * kStep>;
    default:
      return add_up_events<kPixels, 4 * kStep>;
#else
    default:
      return add_up_events<1, 2 * kStep>;
#endif
  }
}

// The currents [steps, pixels, width] of a tile.
void add_up_steps(AddUp add_up, Tile tile, int64_t steps, const float* start, int64_t start_step,
                  float* currents) {
  if (add_up == nullptr) return add_up_tiles(tile, steps, start, start_step, currents);
  for (int64_t i = 0; i < steps; ++i, ++tile.step) {
    add_up(tile, start, start_step, currents);
    start += tile.pixels * start_step;
    currents += tile.pixels * tile.block.width;
  }
}

// Steps whose currents are added up together: for tiles all, or, of one pixel, as many as there is
// room for.
int64_t steps_together(const EventConvCall& call) { return has_cells(call) ? kMostRows : 1; }

// Between a tile [pixels, block.width] and a tensor [pixels, out_channels].
template <typename T>
void write_tile(const Tile& tile, const T* from, T* tensor, int64_t rows) {
  const ConvShape& s = tile.call.shape();
  const int64_t pixel = (rows * s.out_height + tile.y) * s.out_width + tile.x;
  T* to = tensor + pixel * s.out_channels + tile.block.first_channel;
  if (tile.block.channels == tile.block.width && tile.block.width == s.out_channels) {
    memcpy(to, from, static_cast<size_t>(tile.pixels * s.out_channels) * sizeof(T));
    return;
  }
  const size_t size = static_cast<size_t>(tile.block.channels) * sizeof(T);
  for (int64_t p = 0; p < tile.pixels; ++p) {
    memcpy(to + p * s.out_channels, from + p * tile.block.width, size);
  }
}

void read_tile(const Tile& tile, const float* tensor, bool is_scalar, float absent, int64_t rows,
               float* to) {
  const int64_t width = tile.block.width;
  const float value = tensor != nullptr && is_scalar ? *tensor : absent;
  for (int64_t i = 0; i < tile.pixels * width; ++i) to[i] = value;
  if (tensor == nullptr || is_scalar) return;
  const ConvShape& s = tile.call.shape();
  const int64_t pixel = (rows * s.out_height + tile.y) * s.out_width + tile.x;
  const float* from = tensor + pixel * s.out_channels + tile.block.first_channel;
  const size_t size = static_cast<size_t>(tile.block.channels) * sizeof(float);
  for (int64_t p = 0; p < tile.pixels; ++p) memcpy(to + p * width, from + p * s.out_channels, size);
}

// `index` counts blocks, images, rows and tiles of a row, the last one fastest, so that the tiles
// that share weights follow each other.
void run_tile(const EventConvCall& call, int64_t index) {
  alignas(64) float currents[kMostRows * kMaxBlock];
  alignas(64) float v[kTilePixels * kMaxBlock];
  alignas(64) float n[kTilePixels * kMaxBlock];
  alignas(64) int8_t spikes[kMostRows * kMaxBlock];

  const ConvShape& s = call.shape();
  const int64_t most = tile_pixels(call), x = index % tiles_per_row(call) * most;
  index /= tiles_per_row(call);
  const int64_t y = index % s.out_height;
  index /= s.out_height;
  const int64_t part_image = index % call.image_count, block = index / call.image_count;
  const int64_t pixels = s.out_width - x < most ? s.out_width - x : most;
  const auto tile_of = [&](const ConvSource& source) -> Tile {
    return {call, source, source.blocks[block], part_image, y, x, pixels, 0};
  };
  const ConvSource& added = call.sources[call.source_count - 1];  // if there are two
  Tile tile = tile_of(call.sources[0]), added_tile = tile_of(added);
  const int64_t width = tile.block.width, size = pixels * width;

  const AddUp add_up = choose_add_up(tile.source, width), add_up_more = choose_add_up(added, width);
  const StepBlock<float, int8_t> step = choose_step<float, int8_t>(call.neuron, call.tracks_count);
  const Limits<float> limits = limits_of<float>(call.neuron);
  const int64_t image = call.first_image + part_image;
  if (call.is_fused) {
    read_tile(tile, call.v, call.v_is_scalar, initial_potential<float>(call.neuron), image, v);
    if (call.tracks_count) read_tile(tile, call.n, call.n_is_scalar, 0.0f, image, n);
  }
  const int64_t together = steps_together(call);
  const bool is_of_tiles = has_tile_neurons(call, tile.block);
  const StepNeurons step_neurons = choose_neurons(call.neuron, call.tracks_count);
  while (tile.step < call.step_count) {
    const int64_t left = call.step_count - tile.step, steps = left < together ? left : together;
    if (is_of_tiles) {
      added_tile.step = tile.step;
      run_tile_neurons(tile, added_tile, steps, step_neurons, limits, v, n, spikes);
      const int8_t* spike = spikes;
      for (int64_t i = 0; i < steps; ++i, ++tile.step, spike += size) {
        write_tile(tile, spike, call.s, (call.first_step + tile.step) * s.images + image);
      }
      continue;
    }
    add_up_steps(add_up, tile, steps, tile.block.bias, 0, currents);
    if (call.source_count > 1) {
      added_tile.step = tile.step;
      add_up_steps(add_up_more, added_tile, steps, currents, width, currents);
    }
    const float* current = currents;
    for (int64_t i = 0; i < steps; ++i, ++tile.step, current += size) {
      const int64_t rows = (call.first_step + tile.step) * s.images + image;
      if (call.is_fused) {
        step(current, v, n, spikes, size, limits);
        write_tile(tile, spikes, call.s, rows);
      } else {
        write_tile(tile, current, call.y, rows);
      }
    }
  }
  if (!call.is_fused) return;
  if (call.v_next != nullptr) write_tile(tile, v, call.v_next, image);
  if (call.n_next != nullptr) write_tile(tile, n, call.n_next, image);
}

void run_tiles(const EventConvCall& call, int64_t first, int64_t end) {
#if defined(__AMX_INT8__)
  if (has_cells(call)) {
    const Tiles tiles;
    for (int64_t tile = first; tile < end; ++tile) run_tile(call, tile);
    return;
  }
#endif
  for (int64_t tile = first; tile < end; ++tile) run_tile(call, tile);
}

}  // namespace

const EventConvKernels ONNX_SNN_KERNELS = {kMaxBlock, kDenseFrom,  kHasTiles, count,
                                           list_rows, write_cells, run_tiles};

}  // namespace onnx_snn
