// PhaseNeuron as onnxruntime sees it: one OrtCustomOp for each element type and execution provider.
#pragma once

#include <vector>

#include "ort_abi.h"

namespace onnx_snn {

// They live as long as the library. onnxruntime merges them into one schema.
std::vector<const ort_abi::CustomOp*> phase_neuron_ops();

}  // namespace onnx_snn
