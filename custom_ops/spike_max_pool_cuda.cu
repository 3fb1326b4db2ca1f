// One thread carries one place of the output through all time steps: the counts of its window stay
// in registers. Threads next to each other see windows next to each other, whose shared spikes the
// cache holds, so that memory sees each spike once.
#include "spike_max_pool_cuda.h"

#include <limits>

#include "cuda_io.inl"

namespace onnx_snn {
namespace {

// The places of a window along an axis that lie inside the image: the first, and how many.
struct Span {
  int first, size;
};

__device__ Span inside(int begin, int step, int size, int end) {
  const int skipped = begin < 0 ? (step - 1 - begin) / step : 0;
  const int first = begin + skipped * step;
  const int fitting = first < end ? (end - 1 - first) / step + 1 : 0;
  const int left = size - skipped;
  return {first, fitting < left ? fitting : left};
}

template <typename Count>
constexpr Count kLowest = std::numeric_limits<Count>::lowest();

// The counts before step 0, of places of a channel: those given, one for all, or 0.
template <int Places, typename T, typename Count>
__device__ void load_counts(const SpikeMaxPoolRun<T>& run, int64_t channel, const int* places,
                            Count* counts) {
  if (run.c != nullptr && !run.c_is_scalar) {
    const Count* from = run.c + channel;
#pragma unroll
    for (int p = 0; p < Places; ++p) counts[p] = from[places[p]];
    return;
  }
  const Count count = run.c == nullptr ? 0 : *run.c;
#pragma unroll
  for (int p = 0; p < Places; ++p) counts[p] = count;
}

template <int Places, typename Count>
__device__ Count largest(const Count* counts) {
  Count most = counts[0];
#pragma unroll
  for (int p = 1; p < Places; ++p) most = counts[p] > most ? counts[p] : most;
  return most;
}

// For windows of up to Places places: those that are left over see the first one again.
template <typename T, int Places>
__global__ void __launch_bounds__(kThreads) spike_max_pool(const SpikeMaxPoolRun<T> run) {
  using Count = typename SpikeMaxPoolRun<T>::Count;
  // Steps whose spikes are loaded together: 16 loads or so keep memory busy.
  constexpr int kSteps = Places <= 4 ? kAhead : Places <= 9 ? 2 : 1;
  const PoolShape& shape = run.shape;
  const int64_t channels = shape.images * shape.channels;
  const int64_t size = shape.height * shape.width, out_size = shape.out_height * shape.out_width;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (thread >= channels * out_size) return;
  const int64_t channel = thread / out_size;
  const int place = static_cast<int>(thread - channel * out_size);
  // All of these are of 32 bits: see kMostPixels.
  const int width = static_cast<int>(shape.width), out_width = static_cast<int>(shape.out_width);
  const int step_y = static_cast<int>(shape.dilation_y);
  const int step_x = static_cast<int>(shape.dilation_x);
  const int row = place / out_width, column = place - row * out_width;
  const Span rows = inside(static_cast<int>(row * shape.stride_y - shape.pad_top), step_y,
                           static_cast<int>(shape.kernel_height), static_cast<int>(shape.height));
  const Span columns = inside(static_cast<int>(column * shape.stride_x - shape.pad_left), step_x,
                              static_cast<int>(shape.kernel_width), width);
  const bool is_empty = rows.size <= 0 || columns.size <= 0;
  int offsets[Places];
  int y = 0, x = 0;
#pragma unroll
  for (int p = 0; p < Places; ++p) {
    const bool is_left = !is_empty && y < rows.size;
    const int at = (rows.first + y * step_y) * width + columns.first + x * step_x;
    offsets[p] = is_left ? at : p == 0 ? 0 : offsets[0];
    const bool ends = ++x >= columns.size;
    x = ends ? 0 : x;
    y += ends;
  }
  Count counts[Places];
  load_counts<Places>(run, channel * size, offsets, counts);
#pragma unroll
  for (int p = 0; p < Places; ++p) counts[p] = is_empty ? kLowest<Count> : counts[p];

  const T* spikes = run.x + channel * size;
  T* s = run.s + thread;
  Count before = largest<Places>(counts);
  const auto emit = [&](const T* given) {
#pragma unroll
    for (int p = 0; p < Places; ++p) counts[p] += widen(given[p]);
    const Count now = largest<Places>(counts);
    Pack<T, 1> change;
    narrow(now - before, &change.values[0]);
    store<T, 1>(s, change);
    before = now;
    s += channels * out_size;
  };

  int64_t t = 0;
  for (; t + kSteps <= shape.steps; t += kSteps) {
    T given[kSteps][Places];
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int p = 0; p < Places; ++p) given[k][p] = spikes[offsets[p]];
      spikes += channels * size;
    }
#pragma unroll
    for (int k = 0; k < kSteps; ++k) emit(given[k]);
  }
  for (; t < shape.steps; ++t, spikes += channels * size) {
    T given[Places];
#pragma unroll
    for (int p = 0; p < Places; ++p) given[p] = spikes[offsets[p]];
    emit(given);
  }
}

// The counts after the last step; a thread for each place of the input.
template <typename T>
__global__ void __launch_bounds__(kThreads) count_spikes(const SpikeMaxPoolRun<T> run) {
  using Count = typename SpikeMaxPoolRun<T>::Count;
  const PoolShape& shape = run.shape;
  const int64_t places = shape.images * shape.channels * shape.height * shape.width;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (place >= places) return;
  const T* x = run.x + place;
  Count count = run.c == nullptr ? 0 : run.c[run.c_is_scalar ? 0 : place];
  int64_t t = 0;
  for (; t + kAhead <= shape.steps; t += kAhead) {
    Pack<T, 1> spikes[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) spikes[k] = load<T, 1>(x + k * places);
    x += kAhead * places;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) count += widen(spikes[k].values[0]);
  }
  for (; t < shape.steps; ++t, x += places) count += widen(load<T, 1>(x).values[0]);
  run.c_next[place] = count;
}

template <typename T>
void run_cuda(const SpikeMaxPoolRun<T>& run, void* stream_handle) {
  const PoolShape& s = run.shape;
  const int64_t channels = s.images * s.channels;
  if (channels == 0) return;
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  const int64_t places = s.kernel_height * s.kernel_width;
  static_assert(kMostPlaces == 25, "there is no kernel for larger windows");
  const auto kernel = places <= 4    ? spike_max_pool<T, 4>
                      : places <= 9  ? spike_max_pool<T, 9>
                      : places <= 16 ? spike_max_pool<T, 16>
                                     : spike_max_pool<T, 25>;
  queue(kernel, channels * s.out_height * s.out_width, stream, run);
  if (run.c_next != nullptr) {
    queue(count_spikes<T>, channels * s.height * s.width, stream, run);
  }
}

}  // namespace

void run_spike_max_pool_cuda(const SpikeMaxPoolRun<float>& run, void* stream) {
  run_cuda(run, stream);
}
void run_spike_max_pool_cuda(const SpikeMaxPoolRun<Half>& run, void* stream) {
  run_cuda(run, stream);
}
void run_spike_max_pool_cuda(const SpikeMaxPoolRun<double>& run, void* stream) {
  run_cuda(run, stream);
}

}  // namespace onnx_snn
