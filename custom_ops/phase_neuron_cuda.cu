// One thread carries one neuron, or as many as fill 16 bytes, through both phases: the state stays
// in registers, and memory sees each current and each spike once.
#include "phase_neuron_cuda.h"

#include "cuda_io.inl"
#include "phase_neuron_step.inl"

namespace onnx_snn {
namespace {

template <typename T, int Width>
__global__ void __launch_bounds__(kThreads)
    phase_neuron(const PhaseNeuronRun<T> run, const Phases<typename StateOf<T>::type> phases) {
  using State = typename StateOf<T>::type;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Width;
  if (first >= run.neurons) return;

  State v[Width] = {};
  const auto integrate_all = [&](const Pack<T, Width>& currents) {
#pragma unroll
    for (int i = 0; i < Width; ++i) v[i] = integrate(v[i], widen(currents.values[i]), phases.base);
  };
  const int64_t x_stride = run.attributes.constant_input ? 0 : run.neurons;
  const T* x = run.x + first;
  int64_t t = 0;
  for (; t + kAhead <= run.steps; t += kAhead) {
    Pack<T, Width> currents[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) currents[k] = load<T, Width>(x + k * x_stride);
    x += kAhead * x_stride;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) integrate_all(currents[k]);
  }
  for (; t < run.steps; ++t, x += x_stride) integrate_all(load<T, Width>(x));

#pragma unroll
  for (int i = 0; i < Width; ++i) v[i] += phases.start;
  T* s = run.s + first;
  State power = phases.highest;
  for (t = 0; t < run.steps; ++t, power *= phases.lower, s += run.neurons) {
    const State weight = phases.threshold * power;
    Pack<T, Width> spikes;
#pragma unroll
    for (int i = 0; i < Width; ++i) narrow(emit(&v[i], weight), &spikes.values[i]);
    store<T, Width>(s, spikes);
  }
}

template <typename T, int Width>
void launch(const PhaseNeuronRun<T>& run, cudaStream_t stream) {
  using State = typename StateOf<T>::type;
  queue(phase_neuron<T, Width>, run.neurons / Width, stream, run,
        phases_of<State>(run.attributes, run.steps));
}

template <typename T>
void run_cuda(const PhaseNeuronRun<T>& run, void* stream_handle) {
  if (run.neurons == 0) return;
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  constexpr int kWidth = 16 / sizeof(T);
  // Rows follow each other without a gap: if the first is aligned and kWidth divides, all are.
  const bool wide = run.neurons % kWidth == 0 && is_aligned(run.x) && is_aligned(run.s);
  wide ? launch<T, kWidth>(run, stream) : launch<T, 1>(run, stream);
}

}  // namespace

void run_phase_neuron_cuda(const PhaseNeuronRun<float>& run, void* stream) {
  run_cuda(run, stream);
}
void run_phase_neuron_cuda(const PhaseNeuronRun<Half>& run, void* stream) { run_cuda(run, stream); }
void run_phase_neuron_cuda(const PhaseNeuronRun<double>& run, void* stream) {
  run_cuda(run, stream);
}

}  // namespace onnx_snn
