#include "event_conv_cpu.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace onnx_snn {
namespace {

// Lists of events held at a time, at most; a larger call is done in parts. Larger ones would leave
// the cache before they are read.
constexpr int64_t kListBytes = int64_t{16} << 20;
constexpr int64_t kSlack = 16;  // words that the kernels may write or read behind a list

int64_t list_size_of(const ConvShape& s) {
  const int64_t row = 1 + s.groups * (s.width + 1) + 2 * s.width * s.channels;
  const int64_t most = std::max(row, padded_width(s) * s.channels);
  return kRowsTogether + std::min(kRowsTogether, s.height) * most + kSlack;
}

// Memory for lists. The last one to be done with it leaves it for the next, as new memory would
// have to be mapped and cleared by the operating system again and again.
class ListMemory {
 public:
  explicit ListMemory(size_t words) {
    {
      const std::lock_guard<std::mutex> lock(mutex());
      memory_.swap(left());
    }
    if (memory_.size < words)
      memory_ = Memory{std::unique_ptr<int32_t[]>(new int32_t[words]), words};
  }
  ~ListMemory() {
    if (memory_.size * sizeof(int32_t) > static_cast<size_t>(kListBytes)) return;
    const std::lock_guard<std::mutex> lock(mutex());
    if (left().size < memory_.size) memory_.swap(left());
  }
  ListMemory(const ListMemory&) = delete;
  ListMemory& operator=(const ListMemory&) = delete;

  int32_t* words() const { return memory_.words.get(); }

 private:
  struct Memory {
    std::unique_ptr<int32_t[]> words;
    size_t size = 0;

    void swap(Memory& other) {
      words.swap(other.words);
      std::swap(size, other.size);
    }
  };
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static Memory& left() {
    static Memory one;
    return one;
  }

  Memory memory_;
};

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

Form form_of(const EventConvKernels& kernels, const ConvSource& source, float rate) {
  constexpr int64_t kEnoughRows = 8;  // half a tile
  const ConvShape& s = source.shape;
  if (source.is_depthwise) return Form::kChannels;
  const bool has_tiles = source.blocks->limbs != nullptr &&
                         s.steps * std::min(s.out_width, kTilePixels) >= kEnoughRows;
  if (has_tiles && rate >= kernels.tiles_from) return Form::kTiles;
  return rate >= kernels.dense_from ? Form::kValues : Form::kEvents;
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

// `events`: about how many are added up for a current.
void run_part(const EventConvKernels& kernels, const EventConvCall& call, float events,
              const Parallel& parallel) {
  for (int k = 0; k < call.source_count; ++k) {
    const ConvSource& source = call.sources[k];
    if (!source.has_lists()) continue;
    const int64_t groups = row_groups(source.shape);
    share_out([&](int64_t i) { kernels.list_rows(call, source, i); },
              call.image_count * call.step_count * groups,
              kRowsTogether * source.shape.width * source.shape.channels / 8, parallel);
  }
  const ConvShape& s = call.shape();
  const int64_t tiles = call.block_count * call.image_count * s.out_height * tiles_per_row(s);
  const int64_t pixels = std::min(s.out_width, kTilePixels) * call.step_count;
  const int64_t work = pixels * (10 + static_cast<int64_t>(events));
  share_out([&](int64_t i) { kernels.run_tile(call, i); }, tiles, work, parallel);
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
    const float rate = rate_of(kernels, source);
    events +=
        rate * static_cast<float>(from.kernel_height * from.kernel_width * from.group_channels());
    source.form = form_of(kernels, source, rate);
    source.list_size = list_size_of(from);
    step_sizes[k] = source.has_lists() ? row_groups(from) * source.list_size : 0;
    step_size += step_sizes[k];
  }

  // As many images as fit with all their steps, or else as many steps of one image.
  const int64_t step_bytes = step_size * static_cast<int64_t>(sizeof(int32_t));
  const bool lists = step_bytes > 0;
  const int64_t fitting = lists ? std::max<int64_t>(kListBytes / step_bytes, 1) : 0;
  const int64_t most_steps = lists ? std::min(fitting, s.steps) : s.steps;
  const int64_t most_images =
      lists ? std::min(std::max<int64_t>(fitting / s.steps, 1), s.images) : s.images;
  const ListMemory memory(static_cast<size_t>(most_images * most_steps * step_size));
  int32_t* rows = memory.words();
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
