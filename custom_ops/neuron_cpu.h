// Running a neuron's CPU kernels in the threads there are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "neuron_kernels.h"

namespace onnx_snn {

// Calls body(context, index) for every index in [0, count), on any threads, and returns when done.
using ParallelBody = void (*)(void* context, size_t index);
class Parallel {
 public:
  virtual void run(ParallelBody body, size_t count, void* context) const = 0;

 protected:
  ~Parallel() = default;
};

// How a call is shared out: `tasks` of `grain` neurons each; `stream`: spikes go past the cache.
struct Shares {
  int64_t grain;
  size_t tasks;
  bool stream;
};

Shares share_out(int64_t steps, int64_t neurons, size_t value_size);

template <typename Run>
void run_on_cpu(NeuronKernel<Run> kernel, const Run& run, const Parallel& parallel) {
  if (run.neurons == 0) return;
  struct Work {
    const Run& run;
    NeuronKernel<Run> kernel;
    Shares shares;

    void operator()(size_t index) const {
      const int64_t begin = static_cast<int64_t>(index) * shares.grain;
      kernel(run, begin, std::min(begin + shares.grain, run.neurons), shares.stream);
    }
  };
  Work work{run, kernel, share_out(run.steps, run.neurons, sizeof *run.s)};
  if (work.shares.tasks == 1) {
    work(0);
    return;
  }
  parallel.run([](void* context, size_t index) { (*static_cast<Work*>(context))(index); },
               work.shares.tasks, &work);
}

template <template <typename> class Run>
void run_on_cpu(const NeuronKernels<Run>& kernels, const Run<float>& run, const Parallel& p) {
  run_on_cpu<Run<float>>(kernels.for_float, run, p);
}

template <template <typename> class Run>
void run_on_cpu(const NeuronKernels<Run>& kernels, const Run<Half>& run, const Parallel& p) {
  run_on_cpu<Run<Half>>(kernels.for_half, run, p);
}

template <template <typename> class Run>
void run_on_cpu(const NeuronKernels<Run>& kernels, const Run<double>& run, const Parallel& p) {
  run_on_cpu<Run<double>>(kernels.for_double, run, p);
}

}  // namespace onnx_snn
