// IFNeuron and AddIFNeuron as onnxruntime sees them, one OrtCustomOp for each element type and
// execution provider, and EventIFNeuron.
#pragma once

#include <vector>

#include "if_neuron.h"
#include "ort_abi.h"

namespace onnx_snn {

// All but constant_input, within their bounds.
IFNeuronAttributes read_if_neuron_attributes(const ort_abi::Api& api,
                                             const ort_abi::KernelInfo* info);

// The same of neurons whose spikes are events.
IFNeuronAttributes read_event_neuron_attributes(const ort_abi::Api& api,
                                                const ort_abi::KernelInfo* info);

// They live as long as the library. onnxruntime merges those of a name into one schema.
std::vector<const ort_abi::CustomOp*> if_neuron_ops();
std::vector<const ort_abi::CustomOp*> add_if_neuron_ops();
const ort_abi::CustomOp* event_if_neuron_op();

}  // namespace onnx_snn
