// The CPU kernel, compiled once per instruction set, under the rules of if_neuron_kernel.inl.
#include "phase_neuron_cpu.h"
#include "phase_neuron_step.inl"
#include "row_io.inl"

namespace onnx_snn {
namespace {

template <typename State>
void integrate_block(const State* x, State* v, int64_t size, State base) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) v[i] = integrate(v[i], x[i], base);
}

template <typename State>
void emit_block(State* v, State* s, int64_t size, State weight) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) s[i] = emit(v + i, weight);
}

template <typename T, typename State>
void integrate_chunk(const PhaseNeuronRun<T>& run, int64_t begin, int64_t size, State base,
                     State* v) {
  alignas(64) State x_block[kBlock];
  const bool constant = run.attributes.constant_input;
  for (int64_t t = 0; t < run.steps; ++t) {
    const T* row = run.x + (constant ? 0 : t * run.neurons) + begin;
    const bool has_next = !constant && t + 1 < run.steps;
    for (int64_t i = 0; i < size; i += kBlock) {
      const int64_t width = size - i < kBlock ? size - i : kBlock;
      if (has_next) prefetch_row(row + run.neurons + i, width);
      integrate_block(row_for_reading(row + i, width, x_block), v + i, width, base);
    }
  }
}

template <typename T, typename State>
void emit_chunk(const PhaseNeuronRun<T>& run, int64_t begin, int64_t size,
                const Phases<State>& phases, bool stream, State* v) {
  alignas(64) State s_block[kBlock];
  State power = phases.highest;
  for (int64_t t = 0; t < run.steps; ++t, power *= phases.lower) {
    const State weight = phases.threshold * power;
    T* row = run.s + t * run.neurons + begin;
    for (int64_t i = 0; i < size; i += kBlock) {
      const int64_t width = size - i < kBlock ? size - i : kBlock;
      State* spikes = row_for_writing(row + i, s_block, stream);
      emit_block(v + i, spikes, width, weight);
      finish_row(spikes, width, row + i, stream);
    }
  }
}

template <typename T>
void run_kernel(const PhaseNeuronRun<T>& run, int64_t begin, int64_t end, bool stream) {
  using State = typename StateOf<T>::type;
  const Phases<State> phases = phases_of<State>(run.attributes, run.steps);
  alignas(64) State v[kChunk];
  for (int64_t first = begin; first < end; first += kChunk) {
    const int64_t size = end - first < kChunk ? end - first : kChunk;
    for (int64_t i = 0; i < size; ++i) v[i] = State(0);
    integrate_chunk(run, first, size, phases.base, v);
    for (int64_t i = 0; i < size; ++i) v[i] += phases.start;
    emit_chunk(run, first, size, phases, stream, v);
  }
  if (stream) end_streaming();
}

}  // namespace

const PhaseNeuronKernels ONNX_SNN_KERNELS = {run_kernel<float>, run_kernel<Half>,
                                             run_kernel<double>};

}  // namespace onnx_snn
