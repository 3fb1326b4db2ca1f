// EventConv on the CPU: kernels of each instruction set, chosen at run time, and running them.
#pragma once

#include <cstdint>

#include "cpu_features.h"
#include "event_conv.h"
#include "neuron_cpu.h"

namespace onnx_snn {

struct EventConvKernels {
  int64_t block_width;  // of the weights
  float dense_from;     // the share of active inputs from which on the form kValues is faster
  bool has_tiles;       // whether there is the form kTiles
  int64_t (*count)(const int8_t* x, int64_t size);  // values other than 0
  void (*list_rows)(const EventConvCall& call, const ConvSource& source,
                    int64_t list);  // of image_count * step_count * row_groups
  void (*write_cells)(const EventConvCall& call, const ConvSource& source,
                      int64_t y);  // of the input of first_image; only where there are tiles
  void (*run_tiles)(const EventConvCall& call, int64_t first,
                    int64_t end);  // of blocks * images * output rows * tiles
};

extern const EventConvKernels kEventConvPlain;
extern const EventConvKernels kEventConvAvx2;
extern const EventConvKernels kEventConvAvx512;
extern const EventConvKernels kEventConvAmx;

const EventConvKernels& event_conv_kernels(InstructionSet set);

// Runs a call; `call` has all but the part to be done at once and what is said of lists.
void run_event_conv(const EventConvKernels& kernels, EventConvCall call, const Parallel& parallel);

}  // namespace onnx_snn
