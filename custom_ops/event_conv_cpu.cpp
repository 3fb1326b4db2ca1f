#include "event_conv_cpu.h"

#include <algorithm>
#include <vector>

#include "scratch_memory.h"

namespace onnx_snn {
namespace {

// Lists of events held at a time, at most; a larger call is done in parts. Larger ones would leave
// the cache before they are read.
constexpr int64_t kListBytes = int64_t{16} << 20;
constexpr int64_t kSlack = 16;  // words that the kernels may write or read behind a list

// Cells of one thread, that should stay in its L2 cache beside weights.
constexpr int64_t kCellBytes = int64_t{512} << 10;

int64_t list_size_of(const ConvShape& s) {
  const int64_t row = 1 + s.groups * (s.width + 1) + 2 * s.width * s.channels;
  const int64_t most = std::max(row, padded_width(s) * s.channels);
  return kRowsTogether + std::min(kRowsTogether, s.height) * most + kSlack;
}

// Input rows, of one image, that so many output rows read.
int64_t input_rows(const ConvShape& s, int64_t out_rows) {
  return (out_rows - 1) * s.stride_y + (s.kernel_height - 1) * s.dilation_y + 1;
}

// Bytes of the cells that so many output rows of one image read, at so many steps, and of what a
// pair of tiles, of which only the first row counts, may read behind them.
int64_t cell_bytes(const ConvShape& s, int64_t out_rows, int64_t steps) {
  constexpr int64_t kPairOfTiles = 32;
  const CellShape cells(s);
  const int64_t rows = std::min(input_rows(s, out_rows), s.height);
  return rows * cells.row_size(s) * steps + kPairOfTiles * cells.size;
}

int64_t cell_bytes(const EventConvCall& call, int64_t out_rows, int64_t steps) {
  int64_t bytes = 0;
  for (int k = 0; k < call.source_count; ++k) {
    const ConvSource& source = call.sources[k];
    if (source.form == Form::kTiles) bytes += cell_bytes(source.shape, out_rows, steps);
  }
  return bytes;
}

// The share of active inputs, by a sample that depends on shapes only.
float rate_of(const EventConvKernels& kernels, const ConvSource& source) {
  constexpr int64_t kSamples = 64, kMost = 4096;
  const ConvShape& s = source.shape;
  const int64_t rows = s.steps * s.images * s.height, size = s.width * s.channels;
  const int64_t stride = (rows + kSamples - 1) / kSamples, taken = std::min(size, kMost);
  int64_t active = 0, seen = 0;
  for (int64_t row = 0; row < rows; row += stride, seen += taken) {
    active += kernels.count(source.x + row * size, taken);
  }
  return static_cast<float>(active) / static_cast<float>(seen);
}

// The share of active inputs from which on tiles are faster than events. A current takes about
//     events    55 + 112 * inputs/64 * rate
//     tiles     25 + 1.9 * inputs/64 * limbs
// cycles for 16 channels (Intel Xeon with AMX; see tools/bench_event_conv.py).
float tiles_from(const ConvShape& s, int64_t limbs) {
  const CellShape cells(s);
  const int64_t parts = s.kernel_height * cells.count * cells.size / kTileInputs;
  return 0.017f * static_cast<float>(limbs) - 0.27f / static_cast<float>(parts);
}

// Sets the form, and returns the share of active inputs as far as it was needed for that.
float choose_form(const EventConvKernels& kernels, ConvSource* source) {
  constexpr int64_t kEnoughRows = 8;  // half a tile
  const ConvShape& s = source->shape;
  const bool has_tiles = source->blocks->limbs != nullptr &&
                         s.steps * std::min(s.out_width, kTilePixels) >= kEnoughRows;
  const float least = has_tiles ? tiles_from(s, source->blocks->limb_count) : 2.0f;
  source->form = source->is_depthwise ? Form::kChannels : Form::kTiles;
  if (source->is_depthwise || least <= 0) return 1;
  const float rate = rate_of(kernels, *source);
  if (rate < least) source->form = rate >= kernels.dense_from ? Form::kValues : Form::kEvents;
  return rate;
}

// Calls body(i) for i in [0, count), in parts that are worth a thread's while: `work` is about what
// one i costs, in nanoseconds.
template <typename Body>
void share_out(const Body& body, int64_t count, int64_t work, const Parallel& parallel) {
  constexpr int64_t kEnough = 4000;
  struct Work {
    const Body& body;
    int64_t count, grain;

    void operator()(size_t index) const {
      const int64_t begin = static_cast<int64_t>(index) * grain;
      for (int64_t i = begin; i < std::min(begin + grain, count); ++i) body(i);
    }
  };
  const int64_t grain = kEnough / std::max<int64_t>(work, 1) + 1;
  Work part{body, count, grain};
  const size_t parts = static_cast<size_t>((count + grain - 1) / grain);
  if (parts < 2) {
    if (parts == 1) part(0);
    return;
  }
  parallel.run([](void* context, size_t index) { (*static_cast<Work*>(context))(index); }, parts,
               &part);
}

// Output rows of one image, with the input rows that they read in cells.
void run_band(const EventConvKernels& kernels, EventConvCall call, int64_t image, int64_t first,
              int64_t rows) {
  const ScratchMemory memory(static_cast<size_t>(cell_bytes(call, rows, call.step_count)));
  int8_t* cells = static_cast<int8_t*>(memory.data());
  const int64_t part_image = image - call.first_image;
  call.first_image = image;
  call.image_count = 1;
  for (int k = 0; k < call.source_count; ++k) {
    ConvSource& source = call.sources[k];
    const ConvShape& s = source.shape;
    if (source.form != Form::kTiles) {
      source.rows += part_image * call.step_count * row_groups(s) * source.list_size;
      continue;
    }
    source.cells = cells;
    cells += cell_bytes(s, rows, call.step_count);
    const int64_t above = first * s.stride_y - s.pad_top;
    const int64_t end = std::min(above + input_rows(s, rows), s.height);
    source.cell_row_size = CellShape(s).row_size(s) * call.step_count;
    source.first_cell_row = std::max<int64_t>(above, 0);
    for (int64_t y = source.first_cell_row; y < end; ++y) kernels.write_cells(call, source, y);
  }
  const ConvShape& s = call.shape();
  const int64_t tiles = tiles_per_row(call);
  for (int64_t block = 0; block < call.block_count; ++block) {
    const int64_t begin = (block * s.out_height + first) * tiles;
    kernels.run_tiles(call, begin, begin + rows * tiles);
  }
}

// Output rows that are done at once: few enough for the cache, and for all threads to have some.
int64_t band_rows(const EventConvCall& call) {
  constexpr int64_t kBands = 8, kLeast = 4;
  const int64_t height = call.shape().out_height;
  const int64_t bands = std::max<int64_t>(kBands / call.image_count, 1);
  int64_t rows = std::max((height + bands - 1) / bands, std::min(kLeast, height));
  while (rows > 1 && cell_bytes(call, rows, call.step_count) > kCellBytes) rows = (rows + 1) / 2;
  return rows;
}

// `events`: about how many are added up for a current.
void run_part(const EventConvKernels& kernels, const EventConvCall& call, float events,
              const Parallel& parallel) {
  for (int k = 0; k < call.source_count; ++k) {
    const ConvSource& source = call.sources[k];
    if (!source.has_lists()) continue;
    const ConvShape& from = source.shape;
    share_out([&](int64_t i) { kernels.list_rows(call, source, i); },
              call.image_count * call.step_count * row_groups(from),
              kRowsTogether * from.width * from.channels / 8, parallel);
  }
  const ConvShape& s = call.shape();
  const int64_t pixels = std::min(s.out_width, tile_pixels(call)) * call.step_count;
  const int64_t work = pixels * (10 + static_cast<int64_t>(events));
  if (has_cells(call)) {
    const int64_t rows = band_rows(call), bands = (s.out_height + rows - 1) / rows;
    const auto band = [&](int64_t i) {
      const int64_t first = i % bands * rows;
      run_band(kernels, call, call.first_image + i / bands, first,
               std::min(rows, s.out_height - first));
    };
    share_out(band, call.image_count * bands, call.block_count * rows * tiles_per_row(call) * work,
              parallel);
    return;
  }
  const int64_t tiles = call.block_count * call.image_count * s.out_height * tiles_per_row(call);
  share_out([&](int64_t i) { kernels.run_tiles(call, i, i + 1); }, tiles, work, parallel);
}

}  // namespace

const EventConvKernels& event_conv_kernels(InstructionSet set) {
#ifdef ONNX_SNN_AMX_KERNELS
  if (set == InstructionSet::kAmx) return kEventConvAmx;
#endif
#ifdef ONNX_SNN_X86_KERNELS
  if (set >= InstructionSet::kAvx512) return kEventConvAvx512;
  if (set == InstructionSet::kAvx2) return kEventConvAvx2;
#endif
  static_cast<void>(set);
  return kEventConvPlain;
}

void run_event_conv(const EventConvKernels& kernels, EventConvCall call, const Parallel& parallel) {
  const ConvShape s = call.shape();
  if (s.images == 0) return;
  float events = 0;
  int64_t step_sizes[kMostSources] = {}, step_size = 0;  // of lists, in words
  for (int k = 0; k < call.source_count; ++k) {
    ConvSource& source = call.sources[k];
    const ConvShape& from = source.shape;
    const float rate = choose_form(kernels, &source);
    events +=
        rate * static_cast<float>(from.kernel_height * from.kernel_width * from.group_channels());
    source.list_size = list_size_of(from);
    if (source.has_lists()) step_sizes[k] = row_groups(from) * source.list_size;
    step_size += step_sizes[k];
  }

  // As many images as fit with all their steps, or else as many steps of one image.
  const int64_t step_bytes = step_size * static_cast<int64_t>(sizeof(int32_t));
  const bool lists = step_bytes > 0;
  const int64_t fitting = lists ? std::max<int64_t>(kListBytes / step_bytes, 1) : 0;
  int64_t most_steps = lists ? std::min(fitting, s.steps) : s.steps;
  if (has_cells(call)) {  // and as many as one output row fits with
    const int64_t most = kCellBytes / cell_bytes(call, 1, 1);
    most_steps = std::min(most_steps, std::max(most, kMostRows));
  }
  const int64_t most_images =
      lists ? std::min(std::max<int64_t>(fitting / s.steps, 1), s.images) : s.images;
  const ScratchMemory memory(static_cast<size_t>(most_images * most_steps * step_bytes));
  int32_t* rows = static_cast<int32_t*>(memory.data());
  for (int k = 0; k < call.source_count; ++k) {
    call.sources[k].rows = rows;
    rows += most_images * most_steps * step_sizes[k];
  }

  // Between parts of the steps the state needs a place, wanted or not.
  std::vector<float> v_between, n_between;
  if (most_steps < s.steps && call.is_fused) {
    const size_t neurons = static_cast<size_t>(s.images * s.out_pixels() * s.out_channels);
    if (call.v_next == nullptr) {
      v_between.resize(neurons);
      call.v_next = v_between.data();
    }
    if (call.n_next == nullptr && call.tracks_count) {
      n_between.resize(neurons);
      call.n_next = n_between.data();
    }
  }
  for (int64_t step = 0; step < s.steps; step += most_steps) {
    call.first_step = step;
    call.step_count = std::min(most_steps, s.steps - step);
    for (int64_t image = 0; image < s.images; image += most_images) {
      call.first_image = image;
      call.image_count = std::min(most_images, s.images - image);
      run_part(kernels, call, events, parallel);
    }
    call.v = call.v_next;
    call.n = call.n_next;
    call.v_is_scalar = call.n_is_scalar = false;
  }
}

}  // namespace onnx_snn
