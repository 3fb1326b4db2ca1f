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

template <typename T, typename S>
void run_chunk(const IFNeuronCall<T, S>& run, int64_t begin, int64_t size, bool stream) {
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
    const T* x_row = run.x + (a.constant_input ? 0 : t * run.neurons) + begin;
    S* s_row = run.s + t * run.neurons + begin;
    const bool has_next = !a.constant_input && t + 1 < run.steps;
    for (int64_t i = 0; i < size; i += kBlock) {
      const int64_t width = size - i < kBlock ? size - i : kBlock;
      if (has_next) prefetch_row(x_row + run.neurons + i, width);
      const State* current = row_for_reading(x_row + i, width, x_block);
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
    run_chunk(run, i, end - i < kChunk ? end - i : kChunk, stream);
  }
  if (stream) end_streaming();
}

}  // namespace

const IFNeuronKernels ONNX_SNN_KERNELS = {
    {run_kernel<IFNeuronRun<float>>, run_kernel<IFNeuronRun<Half>>,
     run_kernel<IFNeuronRun<double>>},
    run_kernel<EventIFNeuronRun>};

}  // namespace onnx_snn
