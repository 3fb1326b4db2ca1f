
#include <memory>
#include <vector>

#include "custom_op.h"
#include "event_conv_attributes.h"
#include "event_conv_cpu.h"
#include "event_conv_weights.h"
#include "folded_time.h"
#include "if_neuron_op.h"
#include "session_pool.h"
#include "status.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOp;
using ort_abi::ElementType;
using ort_abi::KernelContext;
using ort_abi::KernelInfo;

enum Outputs : size_t { kY, kVNext, kNNext };

// The convolution alone, which gives currents, and with the neuron, which gives spikes. Inputs are
// x, W and B, those of a shortcut, and T, v and n of the neuron.
struct EventConv {
  static constexpr const char *name = "EventConv", *full_name = "onnx_snn.EventConv";
  static constexpr bool is_fused = false, has_shortcut = false;
  static constexpr size_t inputs = 3, outputs = 1;
};
struct EventConvIFNeuron {
  static constexpr const char *name = "EventConvIFNeuron",
                              *full_name = "onnx_snn.EventConvIFNeuron";
  static constexpr bool is_fused = true, has_shortcut = false;
  static constexpr size_t inputs = 6, outputs = 3;
};
struct EventConvAddIFNeuron {
  static constexpr const char *name = "EventConvAddIFNeuron",
                              *full_name = "onnx_snn.EventConvAddIFNeuron";
  static constexpr bool is_fused = true, has_shortcut = true;
  static constexpr size_t inputs = 8, outputs = 3;
};

constexpr size_t kX = 0, kW = 1, kB = 2, kShortcut = 3, kShortcutWeights = 4;
template <typename Op>
constexpr size_t kT = Op::has_shortcut ? 5 : 3;
template <typename Op>
constexpr size_t kV = kT<Op> + 1;
template <typename Op>
constexpr size_t kN = kT<Op> + 2;

template <typename Op>
class Kernel {
 public:
  Kernel(const Api& api_table, const KernelInfo* info)
      : api(api_table),
        attributes_(read_conv_attributes(api, info)),
        kernels_(event_conv_kernels(required_instruction_set())) {
    if (Op::has_shortcut) shortcut_attributes_ = read_shortcut_attributes(api, info);
    if (Op::is_fused) neuron_ = read_event_neuron_attributes(api, info);
    const Weights constant = {
        get_constant_input(api, info, kW), get_constant_input(api, info, kB),
        Op::has_shortcut ? get_constant_input(api, info, kShortcutWeights) : Input()};
    const bool is_complete =
        constant.w.present && constant.b.present && (constant.r.present || !Op::has_shortcut);
    if (!is_complete) return;
    check_weights(constant);
    packed_ = pack(constant);
  }

  void compute(KernelContext* context) const {
    const Input x = get_input(api, context, kX);
    const Weights weights = {
        get_input(api, context, kW), get_input(api, context, kB),
        Op::has_shortcut ? get_input(api, context, kShortcutWeights) : Input()};
    check_weights(weights);
    const int64_t steps = Op::is_fused ? read_steps(get_input(api, context, kT<Op>)) : 1;
    EventConvCall call = {};
    call.sources[0].shape = conv_shape(attributes_, x.shape, weights.w.shape, steps);
    call.sources[0].x = static_cast<const int8_t*>(x.data);
    call.source_count = 1;
    if (Op::has_shortcut) {
      const Input r = get_input(api, context, kShortcut);
      ConvSource& shortcut = call.sources[call.source_count++];
      shortcut.shape = conv_shape(shortcut_attributes_, r.shape, weights.r.shape, steps);
      shortcut.x = static_cast<const int8_t*>(r.data);
      check_sum(call.shape(), x.shape, shortcut.shape, r.shape);
    }
    call.is_fused = Op::is_fused;
    call.neuron = neuron_;
    bind_outputs(context, x.shape, &call);

    // Weights that are not constant are packed at every call.
    const std::vector<ConvWeights> fresh =
        packed_.empty() ? pack(weights) : std::vector<ConvWeights>();
    const std::vector<ConvWeights>& packed = packed_.empty() ? fresh : packed_;
    call.block_count = static_cast<int64_t>(packed[0].blocks().size());
    for (size_t k = 0; k < packed.size(); ++k) {
      call.sources[k].blocks = packed[k].blocks().data();
      call.sources[k].is_depthwise = packed[k].is_depthwise();
    }
    run_event_conv(kernels_, call, SessionPool(api, context));
  }

  const Api& api;

 private:
  struct Weights {
    Input w, b, r;
  };

  void check_weights(const Weights& weights) const {
    onnx_snn::check_weights(weights.w, weights.b, attributes_);
    if (Op::has_shortcut) check_shortcut_weights(weights.r, weights.w, shortcut_attributes_);
  }

  // Those of each source.
  std::vector<ConvWeights> pack(const Weights& weights) const {
    std::vector<WeightShape> shapes = {weight_shape(weights.w, attributes_)};
    if (Op::has_shortcut) shapes.push_back(weight_shape(weights.r, shortcut_attributes_));
    const std::vector<int64_t> bounds = block_bounds(shapes, kernels_.block_width);
    std::vector<ConvWeights> packed;
    const bool has_tiles = kernels_.has_tiles;
    packed.emplace_back(static_cast<const float*>(weights.w.data),
                        static_cast<const float*>(weights.b.data), shapes[0], bounds, has_tiles);
    if (Op::has_shortcut) {
      packed.emplace_back(static_cast<const float*>(weights.r.data), nullptr, shapes[1], bounds,
                          has_tiles);
    }
    return packed;
  }

  void bind_outputs(KernelContext* context, const Shape& x, EventConvCall* call) const {
    const ConvShape& s = call->shape();
    Shape out = {s.images, s.out_height, s.out_width, s.out_channels};
    const Shape state = out;
    out[0] *= s.steps;
    element_count(out);
    void* const y = get_output(api, context, kY, out);
    if (!Op::is_fused) {
      call->y = static_cast<float*>(y);
      return;
    }
    const Input v = get_input(api, context, kV<Op>), n = get_input(api, context, kN<Op>);
    check_state("v", v, state, x, s.steps);
    check_state("n", n, state, x, s.steps);
    call->s = static_cast<int8_t*>(y);
    call->v = static_cast<const float*>(v.data);
    call->n = static_cast<const float*>(n.data);
    call->v_is_scalar = v.shape.empty();
    call->n_is_scalar = n.shape.empty();
    call->v_next = static_cast<float*>(get_output(api, context, kVNext, state));
    call->n_next = static_cast<float*>(get_output(api, context, kNNext, state));
    call->tracks_count = call->n_next != nullptr || call->neuron.limits_count();
  }

  ConvAttributes attributes_, shortcut_attributes_;
  IFNeuronAttributes neuron_;
  const EventConvKernels& kernels_;
  std::vector<ConvWeights> packed_;
};

template <typename Op>
struct Callbacks : CpuCallbacks<Op, Kernel<Op>> {
  static ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t index) {
    const bool is_events = index == kX || (Op::has_shortcut && index == kShortcut);
    return is_events ? ort_abi::kInt8 : index == kT<Op> ? ort_abi::kInt64 : ort_abi::kFloat;
  }
  static ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t index) {
    return Op::is_fused && index == kY ? ort_abi::kInt8 : ort_abi::kFloat;
  }
  static ort_abi::Characteristic ORT_ABI_CALL input_kind(const CustomOp*, size_t index) {
    return index <= kT<Op> ? ort_abi::kRequired : ort_abi::kOptional;
  }
};

}  // namespace

std::vector<const CustomOp*> event_conv_ops() {
  return {custom_op<Callbacks<EventConv>>(), custom_op<Callbacks<EventConvIFNeuron>>(),
          custom_op<Callbacks<EventConvAddIFNeuron>>()};
}

}  // namespace onnx_snn
