// EventMaxPool and EventSumPool as onnxruntime sees them.
#pragma once

#include <vector>

#include "ort_abi.h"

namespace onnx_snn {

// They live as long as the library.
std::vector<const ort_abi::CustomOp*> event_pool_ops();

}  // namespace onnx_snn
