// One thread carries one neuron, or as many as fill 16 bytes, through all time steps: the state
// stays in registers, and memory sees each current and each spike once. Included by the CUDA
// kernels of IFNeuron and AddIFNeuron.
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

// What `Width` neurons from `first` on are given, of the step it stands at. This one for x as it
// is.
template <typename T, int Width>
class Currents {
 public:
  using State = typename StateOf<T>::type;
  struct Loaded {
    Pack<T, Width> x;
  };

  __device__ Currents(const IFNeuronRun<T>& run, int64_t first)
      : x_(run.x + first), stride_(run.attributes.constant_input ? 0 : run.neurons) {}

  // Those of the k-th step from here.
  __device__ Loaded load_step(int k) const { return {load<T, Width>(x_ + k * stride_)}; }
  __device__ State of(const Loaded& loaded, int i) const { return widen(loaded.x.values[i]); }
  __device__ void advance(int steps) { x_ += steps * stride_; }

 private:
  const T* x_;
  int64_t stride_;
};

// And with those of a shortcut.
template <typename T, int Width>
class SumOfCurrents {
 public:
  using State = typename StateOf<T>::type;
  struct Loaded {
    Pack<T, Width> x, r;
  };

  __device__ SumOfCurrents(const AddIFNeuronRun<T>& run, int64_t first)
      : x_(run.x + first), r_(run.r + first), stride_(run.neurons) {
    int64_t channel = first / run.channel_size % run.channels;
    int64_t left = run.channel_size - first % run.channel_size;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      factors_[i] = widen(run.factors[channel]);
      if (--left == 0) {
        left = run.channel_size;
        channel = channel + 1 < run.channels ? channel + 1 : 0;
      }
    }
  }

  __device__ Loaded load_step(int k) const {
    return {load<T, Width>(x_ + k * stride_), load<T, Width>(r_ + k * stride_)};
  }
  __device__ State of(const Loaded& loaded, int i) const {
    return widen(loaded.x.values[i]) + factors_[i] * widen(loaded.r.values[i]);
  }
  __device__ void advance(int steps) {
    x_ += steps * stride_;
    r_ += steps * stride_;
  }

 private:
  const T* x_;
  const T* r_;
  int64_t stride_;
  State factors_[Width];
};

template <typename Run>
struct CurrentsOf;
template <typename T>
struct CurrentsOf<IFNeuronRun<T>> {
  template <int Width>
  using type = Currents<T, Width>;
  static bool are_aligned(const IFNeuronRun<T>& run) { return is_aligned(run.x); }
};
template <typename T>
struct CurrentsOf<AddIFNeuronRun<T>> {
  template <int Width>
  using type = SumOfCurrents<T, Width>;
  static bool are_aligned(const AddIFNeuronRun<T>& run) {
    return is_aligned(run.x) && is_aligned(run.r);
  }
};

template <typename T, typename Given, int Width, Fire fire, bool ToZero, bool Count, typename Run>
__global__ void __launch_bounds__(kThreads)
    if_neuron(const Run run, const Limits<typename StateOf<T>::type> limits,
              const typename StateOf<T>::type v_start) {
  using State = typename StateOf<T>::type;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Width;
  if (first >= run.neurons) return;

  State v[Width];
  State n[Width];
  load_state<Width>(run.v, run.v_is_scalar, first, v_start, v);
  if (Count) load_state<Width>(run.n, run.n_is_scalar, first, State(0), n);

  Given currents(run, first);
  T* s = run.s + first;
  const auto emit = [&](const typename Given::Loaded& loaded) {
    Pack<T, Width> spikes;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      const State current = currents.of(loaded, i);
      narrow(step<fire, ToZero, Count>(current, &v[i], &n[i], limits), &spikes.values[i]);
    }
    store<T, Width>(s, spikes);
    s += run.neurons;
  };

  int64_t t = 0;
  for (; t + kAhead <= run.steps; t += kAhead) {
    typename Given::Loaded loaded[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) loaded[k] = currents.load_step(k);
    currents.advance(kAhead);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) emit(loaded[k]);
  }
  for (; t < run.steps; ++t, currents.advance(1)) emit(currents.load_step(0));

  store_state<Width>(v, first, run.v_next);
  if (Count) store_state<Width>(n, first, run.n_next);
}

template <typename T, int Width, Fire fire, bool ToZero, bool Count, typename Run>
void launch(const Run& run, cudaStream_t stream) {
  using State = typename StateOf<T>::type;
  using Given = typename CurrentsOf<Run>::template type<Width>;
  queue(if_neuron<T, Given, Width, fire, ToZero, Count, Run>, run.neurons / Width, stream, run,
        limits_of<State>(run.attributes), initial_potential<State>(run.attributes));
}

// A device divides fast enough for a threshold of 1 not to need a kernel of its own: V / 1 is V.
template <typename T, int Width, bool ToZero, bool Count, typename Run>
void launch(const Run& run, cudaStream_t stream) {
  if (run.attributes.is_binary()) {
    launch<T, Width, Fire::kBinary, ToZero, Count>(run, stream);
  } else {
    launch<T, Width, Fire::kDivided, ToZero, Count>(run, stream);
  }
}

template <typename T, int Width, typename Run>
void launch(const Run& run, cudaStream_t stream) {
  const bool count = run.tracks_count();
  if (run.attributes.reset_to_zero) {
    count ? launch<T, Width, true, true>(run, stream) : launch<T, Width, true, false>(run, stream);
  } else {
    count ? launch<T, Width, false, true>(run, stream)
          : launch<T, Width, false, false>(run, stream);
  }
}

template <typename T, template <typename> class Run>
void run_cuda(const Run<T>& run, void* stream_handle) {
  if (run.neurons == 0) return;
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  constexpr int kWidth = 16 / sizeof(T);
  // Rows follow each other without a gap: if the first is aligned and kWidth divides, all are.
  const bool wide = run.neurons % kWidth == 0 && CurrentsOf<Run<T>>::are_aligned(run) &&
                    is_aligned(run.s) && (run.v_is_scalar || is_aligned(run.v)) &&
                    (run.n_is_scalar || is_aligned(run.n)) && is_aligned(run.v_next) &&
                    is_aligned(run.n_next);
  wide ? launch<T, kWidth>(run, stream) : launch<T, 1>(run, stream);
}

}  // namespace
}  // namespace onnx_snn
