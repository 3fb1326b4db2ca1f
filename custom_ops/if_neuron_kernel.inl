// The CPU kernel, compiled once per instruction set: the file that includes this one defines
// ONNX_SNN_KERNELS, and its compiler flags do the rest. Everything here but the table at the end
// has internal linkage, and no inline function of the standard library is used: the linker keeps
// one copy of an inline function, and that copy could hold instructions this machine does not have.
#include "if_neuron_block.inl"
#include "if_neuron_cpu.h"
#include "row_io.inl"

namespace onnx_snn {
namespace {

// The state before step 0: the values given, one value for all, or `absent`.
template <typename T, typename State>
void load_state(const T* from, bool is_scalar, int64_t begin, int64_t size, State absent,
                State* to) {
  if (from != nullptr && !is_scalar) {
    read_row(from + begin, size, to);
    return;
  }
  State value = absent;
  if (from != nullptr) read_row(from, 1, &value);
  for (int64_t i = 0; i < size; ++i) to[i] = value;
}

// What neurons are given at a step. This one for x as it is.
template <typename T>
class Currents {
 public:
  using State = typename StateOf<T>::type;

  template <typename Run>
  Currents(const Run& run, int64_t begin, int64_t)
      : x_(run.x + begin), stride_(run.attributes.constant_input ? 0 : run.neurons) {}

  // Of `size` neurons, at most kBlock, from the i-th of the chunk on; `block` has room for them.
  const State* read(int64_t t, int64_t i, int64_t size, State* block) const {
    return row_for_reading(x_ + t * stride_ + i, size, block);
  }
  void prefetch(int64_t t, int64_t i, int64_t size) const {
    if (stride_ != 0) prefetch_row(x_ + t * stride_ + i, size);
  }

 private:
  const T* x_;
  int64_t stride_;
};

// And with those of a shortcut.
template <typename T>
class SumOfCurrents {
 public:
  using State = typename StateOf<T>::type;

  SumOfCurrents(const AddIFNeuronRun<T>& run, int64_t begin, int64_t size)
      : x_(run.x + begin), r_(run.r + begin), stride_(run.neurons) {
    for (int64_t i = 0; i < size; ++i) {
      read_row(run.factors + (begin + i) / run.channel_size % run.channels, 1, factors_ + i);
    }
  }

  const State* read(int64_t t, int64_t i, int64_t size, State* block) const {
    alignas(64) State x_block[kBlock];
    alignas(64) State r_block[kBlock];
    const State* x = row_for_reading(x_ + t * stride_ + i, size, x_block);
    const State* r = row_for_reading(r_ + t * stride_ + i, size, r_block);
    const State* factors = factors_ + i;
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) block[j] = x[j] + factors[j] * r[j];
    return block;
  }
  void prefetch(int64_t t, int64_t i, int64_t size) const {
    prefetch_row(x_ + t * stride_ + i, size);
    prefetch_row(r_ + t * stride_ + i, size);
  }

 private:
  const T* x_;
  const T* r_;
  int64_t stride_;
  alignas(64) State factors_[kChunk];
};

template <typename Run>
struct CurrentsOf;
template <typename T>
struct CurrentsOf<IFNeuronRun<T>> {
  using type = Currents<T>;
};
template <typename T>
struct CurrentsOf<AddIFNeuronRun<T>> {
  using type = SumOfCurrents<T>;
};
template <>
struct CurrentsOf<EventIFNeuronRun> {
  using type = Currents<float>;
};

template <typename T, typename S, typename Given>
void run_chunk(const IFNeuronCall<T, S>& run, const Given& currents, int64_t begin, int64_t size,
               bool stream) {
  using State = typename StateOf<T>::type;
  using Spike = typename StateOf<S>::type;
  alignas(64) State v[kChunk];
  alignas(64) State n[kChunk];
  alignas(64) State x_block[kBlock];
  alignas(64) Spike s_block[kBlock];

  const IFNeuronAttributes& a = run.attributes;
  const bool count = run.tracks_count();
  const StepBlock<State, Spike> step_rows = choose_step<State, Spike>(a, count);
  const Limits<State> limits = limits_of<State>(a);
  load_state(run.v, run.v_is_scalar, begin, size, initial_potential<State>(a), v);
  if (count) load_state(run.n, run.n_is_scalar, begin, size, State(0), n);

  for (int64_t t = 0; t < run.steps; ++t) {
    S* s_row = run.s + t * run.neurons + begin;
    for (int64_t i = 0; i < size; i += kBlock) {
      const int64_t width = size - i < kBlock ? size - i : kBlock;
      if (t + 1 < run.steps) currents.prefetch(t + 1, i, width);
      const State* current = currents.read(t, i, width, x_block);
      Spike* spikes = row_for_writing(s_row + i, s_block, stream);
      step_rows(current, v + i, n + i, spikes, width, limits);
      finish_row(spikes, width, s_row + i, stream);
    }
  }
  if (run.v_next != nullptr) write_row(v, size, run.v_next + begin);
  if (run.n_next != nullptr) write_row(n, size, run.n_next + begin);
}

template <typename Run>
void run_kernel(const Run& run, int64_t begin, int64_t end, bool stream) {
  for (int64_t i = begin; i < end; i += kChunk) {
    const int64_t size = end - i < kChunk ? end - i : kChunk;
    run_chunk(run, typename CurrentsOf<Run>::type(run, i, size), i, size, stream);
  }
  if (stream) end_streaming();
}

}  // namespace

const IFNeuronKernels ONNX_SNN_KERNELS = {
    {run_kernel<IFNeuronRun<float>>, run_kernel<IFNeuronRun<Half>>,
     run_kernel<IFNeuronRun<double>>},
    {run_kernel<AddIFNeuronRun<float>>, run_kernel<AddIFNeuronRun<Half>>,
     run_kernel<AddIFNeuronRun<double>>},
    run_kernel<EventIFNeuronRun>};

}  // namespace onnx_snn
