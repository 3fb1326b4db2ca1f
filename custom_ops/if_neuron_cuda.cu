// One thread carries one neuron, or as many as fill 16 bytes, through all time steps: the state
// stays in registers, and memory sees each current and each spike once.
#include "if_neuron_cuda.h"

#include "cuda_io.inl"
#include "if_neuron_step.inl"

namespace onnx_snn {
namespace {

// The state before step 0: the values given, one value for all, or `absent`.
template <int Width, typename T, typename State>
__device__ void load_state(const T* from, bool is_scalar, int64_t first, State absent,
                           State* state) {
  if (from != nullptr && !is_scalar) {
    const Pack<T, Width> pack = load<T, Width>(from + first);
#pragma unroll
    for (int i = 0; i < Width; ++i) state[i] = widen(pack.values[i]);
    return;
  }
  const State value = from == nullptr ? absent : widen(*from);
#pragma unroll
  for (int i = 0; i < Width; ++i) state[i] = value;
}

template <int Width, typename T, typename State>
__device__ void store_state(const State* state, int64_t first, T* to) {
  if (to == nullptr) return;
  Pack<T, Width> pack;
#pragma unroll
  for (int i = 0; i < Width; ++i) narrow(state[i], &pack.values[i]);
  store<T, Width>(to + first, pack);
}

template <typename T, int Width, Fire fire, bool ToZero, bool Count>
__global__ void __launch_bounds__(kThreads)
    if_neuron(const IFNeuronRun<T> run, const Limits<typename StateOf<T>::type> limits,
              const typename StateOf<T>::type v_start) {
  using State = typename StateOf<T>::type;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Width;
  if (first >= run.neurons) return;

  State v[Width];
  State n[Width];
  load_state<Width>(run.v, run.v_is_scalar, first, v_start, v);
  if (Count) load_state<Width>(run.n, run.n_is_scalar, first, State(0), n);

  const int64_t x_stride = run.attributes.constant_input ? 0 : run.neurons;
  const T* x = run.x + first;
  T* s = run.s + first;
  const auto emit = [&](const Pack<T, Width>& currents) {
    Pack<T, Width> spikes;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      const State current = widen(currents.values[i]);
      narrow(step<fire, ToZero, Count>(current, &v[i], &n[i], limits), &spikes.values[i]);
    }
    store<T, Width>(s, spikes);
    s += run.neurons;
  };

  int64_t t = 0;
  for (; t + kAhead <= run.steps; t += kAhead) {
    Pack<T, Width> currents[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) currents[k] = load<T, Width>(x + k * x_stride);
    x += kAhead * x_stride;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) emit(currents[k]);
  }
  for (; t < run.steps; ++t, x += x_stride) emit(load<T, Width>(x));

  store_state<Width>(v, first, run.v_next);
  if (Count) store_state<Width>(n, first, run.n_next);
}

template <typename T, int Width, Fire fire, bool ToZero, bool Count>
void launch(const IFNeuronRun<T>& run, cudaStream_t stream) {
  using State = typename StateOf<T>::type;
  queue(if_neuron<T, Width, fire, ToZero, Count>, run.neurons / Width, stream, run,
        limits_of<State>(run.attributes), initial_potential<State>(run.attributes));
}

// A device divides fast enough for a threshold of 1 not to need a kernel of its own: V / 1 is V.
template <typename T, int Width, bool ToZero, bool Count>
void launch(const IFNeuronRun<T>& run, cudaStream_t stream) {
  if (run.attributes.is_binary()) {
    launch<T, Width, Fire::kBinary, ToZero, Count>(run, stream);
  } else {
    launch<T, Width, Fire::kDivided, ToZero, Count>(run, stream);
  }
}

template <typename T, int Width>
void launch(const IFNeuronRun<T>& run, cudaStream_t stream) {
  const bool count = run.tracks_count();
  if (run.attributes.reset_to_zero) {
    count ? launch<T, Width, true, true>(run, stream) : launch<T, Width, true, false>(run, stream);
  } else {
    count ? launch<T, Width, false, true>(run, stream)
          : launch<T, Width, false, false>(run, stream);
  }
}

template <typename T>
void run_cuda(const IFNeuronRun<T>& run, void* stream_handle) {
  if (run.neurons == 0) return;
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  constexpr int kWidth = 16 / sizeof(T);
  // Rows follow each other without a gap: if the first is aligned and kWidth divides, all are.
  const bool wide = run.neurons % kWidth == 0 && is_aligned(run.x) && is_aligned(run.s) &&
                    (run.v_is_scalar || is_aligned(run.v)) &&
                    (run.n_is_scalar || is_aligned(run.n)) && is_aligned(run.v_next) &&
                    is_aligned(run.n_next);
  wide ? launch<T, kWidth>(run, stream) : launch<T, 1>(run, stream);
}

}  // namespace

void run_if_neuron_cuda(const IFNeuronRun<float>& run, void* stream) { run_cuda(run, stream); }
void run_if_neuron_cuda(const IFNeuronRun<Half>& run, void* stream) { run_cuda(run, stream); }
void run_if_neuron_cuda(const IFNeuronRun<double>& run, void* stream) { run_cuda(run, stream); }

}  // namespace onnx_snn
