#include "if_neuron_cpu.h"

#include <algorithm>

namespace onnx_snn {
namespace {

template <typename T>
struct Work {
  const IFNeuronRun<T>& run;
  IFNeuronKernel<T> kernel;
  int64_t grain;
  bool stream;

  void operator()(size_t index) const {
    const int64_t begin = static_cast<int64_t>(index) * grain;
    kernel(run, begin, std::min(begin + grain, run.neurons), stream);
  }
};

// Neurons per task: enough steps to be worth a thread's while, few enough for every thread to get
// some, and whole cache lines of any type, so that no two threads write one line.
int64_t grain_of(int64_t steps, int64_t neurons) {
  constexpr int64_t kLine = 64, kWork = 1 << 15, kMost = 1 << 13, kTasks = 32;
  const int64_t enough = kWork / steps + 1;
  const int64_t grain = std::max(enough, std::min(neurons / kTasks, kMost));
  return (grain + kLine - 1) / kLine * kLine;
}

template <typename T>
void run_cpu(IFNeuronKernel<T> kernel, const IFNeuronRun<T>& run, const Parallel& parallel) {
  if (run.neurons == 0) return;
  static const size_t cache = last_level_cache_size();
  const int64_t grain = grain_of(run.steps, run.neurons);
  const size_t bytes =
      static_cast<size_t>(run.steps) * static_cast<size_t>(run.neurons) * sizeof(T);
  Work<T> work{run, kernel, grain, bytes > cache};
  const size_t tasks = static_cast<size_t>((run.neurons + grain - 1) / grain);
  if (tasks == 1) {
    work(0);
    return;
  }
  parallel.run([](void* context, size_t index) { (*static_cast<Work<T>*>(context))(index); }, tasks,
               &work);
}

}  // namespace

const IFNeuronKernels& if_neuron_kernels(InstructionSet set) {
#ifdef ONNX_SNN_X86_KERNELS
  if (set == InstructionSet::kAvx512) return kIFNeuronAvx512;
  if (set == InstructionSet::kAvx2) return kIFNeuronAvx2;
#endif
  static_cast<void>(set);
  return kIFNeuronPlain;
}

void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<float>& run,
                       const Parallel& parallel) {
  run_cpu(kernels.for_float, run, parallel);
}

void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<Half>& run,
                       const Parallel& parallel) {
  run_cpu(kernels.for_half, run, parallel);
}

void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<double>& run,
                       const Parallel& parallel) {
  run_cpu(kernels.for_double, run, parallel);
}

}  // namespace onnx_snn
