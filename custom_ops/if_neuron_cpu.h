// IFNeuron on the CPU: one kernel per instruction set, chosen at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_features.h"
#include "if_neuron.h"

namespace onnx_snn {

// Runs neurons [begin, end) over all steps. `stream`: write spikes past the cache.
template <typename T>
using IFNeuronKernel = void (*)(const IFNeuronRun<T>& run, int64_t begin, int64_t end, bool stream);

struct IFNeuronKernels {
  IFNeuronKernel<float> for_float;
  IFNeuronKernel<Half> for_half;
  IFNeuronKernel<double> for_double;
};

extern const IFNeuronKernels kIFNeuronPlain;
extern const IFNeuronKernels kIFNeuronAvx2;
extern const IFNeuronKernels kIFNeuronAvx512;

const IFNeuronKernels& if_neuron_kernels(InstructionSet set);

// Calls body(context, index) for every index in [0, count), on any threads, and returns when done.
using ParallelBody = void (*)(void* context, size_t index);
class Parallel {
 public:
  virtual void run(ParallelBody body, size_t count, void* context) const = 0;

 protected:
  ~Parallel() = default;
};

void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<float>& run,
                       const Parallel& parallel);
void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<Half>& run,
                       const Parallel& parallel);
void run_if_neuron_cpu(const IFNeuronKernels& kernels, const IFNeuronRun<double>& run,
                       const Parallel& parallel);

}  // namespace onnx_snn
