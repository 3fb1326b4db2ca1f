// The pools of events on the CPU: kernels of each instruction set, chosen at run time, and running
// them.
#pragma once

#include <cstdint>

#include "cpu_features.h"
#include "event_pool.h"
#include "neuron_cpu.h"

namespace onnx_snn {

// Computes one tile of images * row tiles * column tiles * channel tiles. `memory`: of as many
// bytes as the tiling says.
using PoolKernel = void (*)(const EventPoolCall& call, int64_t tile, void* memory);

struct EventPoolKernels {
  PoolKernel max_pool, sum_pool;
};

extern const EventPoolKernels kEventPoolPlain;
extern const EventPoolKernels kEventPoolAvx2;
extern const EventPoolKernels kEventPoolAvx512;

const EventPoolKernels& event_pool_kernels(InstructionSet set);

// Runs a call, which has all but the tiling.
void run_event_pool(PoolKernel kernel, EventPoolCall call, const Parallel& parallel);

}  // namespace onnx_snn
