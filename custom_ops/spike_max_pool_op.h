// SpikeMaxPool as onnxruntime sees it.
#pragma once

#include <vector>

#include "ort_abi.h"

namespace onnx_snn {

// One for each element type and execution provider.
std::vector<const ort_abi::CustomOp*> spike_max_pool_ops();

}  // namespace onnx_snn
