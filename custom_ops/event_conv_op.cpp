
#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "custom_op.h"
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

enum Inputs : size_t { kX, kW, kB, kT, kV, kN };
enum Outputs : size_t { kY, kVNext, kNNext };

// The convolution alone, which gives currents, and with the neuron, which gives spikes.
struct EventConv {
  static constexpr const char *name = "EventConv", *full_name = "onnx_snn.EventConv";
  static constexpr bool is_fused = false;
  static constexpr size_t inputs = 3, outputs = 1;
};
struct EventConvIFNeuron {
  static constexpr const char *name = "EventConvIFNeuron",
                              *full_name = "onnx_snn.EventConvIFNeuron";
  static constexpr bool is_fused = true;
  static constexpr size_t inputs = 6, outputs = 3;
};

using Integers = std::vector<int64_t>;

Integers read_integers(const Api& api, const KernelInfo* info, const char* name,
                       const Integers& absent, int64_t least) {
  const Integers values = get_attribute(api, info, name, absent);
  const bool within = std::all_of(values.begin(), values.end(), [&](int64_t value) {
    return value >= least && value <= std::numeric_limits<int32_t>::max();
  });
  if (values.size() != absent.size() || !within) {
    refuse(std::string(name) + " must be " + std::to_string(absent.size()) + " integers of " +
           std::to_string(least) + " or more, not " + to_string(values));
  }
  return values;
}

struct Attributes {
  Integers strides, pads, dilations;
  int64_t groups;
  IFNeuronAttributes neuron;

  Attributes(const Api& api, const KernelInfo* info, bool is_fused)
      : strides(read_integers(api, info, "strides", {1, 1}, 1)),
        pads(read_integers(api, info, "pads", {0, 0, 0, 0}, 0)),
        dilations(read_integers(api, info, "dilations", {1, 1}, 1)),
        groups(get_attribute(api, info, "group", int64_t{1})) {
    if (groups < 1) refuse("group must be 1 or more, not " + std::to_string(groups));
    if (!is_fused) return;
    neuron = read_if_neuron_attributes(api, info);
    if (neuron.spike_min < -128 || neuron.spike_max > 127) {
      refuse("spikes of 8 bits reach from -128 to 127, not from " +
             std::to_string(neuron.spike_min) + " to " + std::to_string(neuron.spike_max));
    }
  }
};

// Refuses weights that no input could have.
void check_weights(const Input& w, const Input& b, int64_t groups) {
  if (w.shape.size() != 4 || element_count(w.shape) == 0) {
    refuse("W must be [kH, kW, C/group, M] and not empty, not " + to_string(w.shape));
  }
  if (w.shape[3] % groups != 0) {
    refuse("W has " + std::to_string(w.shape[3]) + " output channels, which is not a multiple of " +
           "group = " + std::to_string(groups) + " (W shape " + to_string(w.shape) + ")");
  }
  if (b.shape != Shape{w.shape[3]}) {
    refuse("B has shape " + to_string(b.shape) + ", but [" + std::to_string(w.shape[3]) +
           "] is needed (W shape " + to_string(w.shape) + ")");
  }
}

// Output size along an axis.
int64_t out_size(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t dilation,
                 int64_t stride, const Shape& x, const Shape& w) {
  const int64_t reach = (kernel - 1) * dilation + 1, padded = size + before + after;
  if (size < 1 || reach > padded) {
    refuse("the kernel of W " + to_string(w) + " is larger than x " + to_string(x) +
           " with its padding");
  }
  return (padded - reach) / stride + 1;
}

ConvShape conv_shape(const Attributes& a, const Shape& x, const Shape& w, int64_t steps) {
  if (x.size() != 4) refuse("x must be [T*N, H, W, C], not " + to_string(x));
  if (x[3] != w[2] * a.groups) {
    refuse("x has " + std::to_string(x[3]) + " channels, but W wants " +
           std::to_string(w[2] * a.groups) + " (x shape " + to_string(x) + ", W shape " +
           to_string(w) + ", group = " + std::to_string(a.groups) + ")");
  }
  ConvShape s;
  s.steps = steps;
  s.images = state_shape(x, steps, false)[0];
  s.height = x[1];
  s.width = x[2];
  s.channels = x[3];
  s.kernel_height = w[0];
  s.kernel_width = w[1];
  s.out_channels = w[3];
  s.stride_y = a.strides[0];
  s.stride_x = a.strides[1];
  s.pad_top = a.pads[0];
  s.pad_left = a.pads[1];
  s.dilation_y = a.dilations[0];
  s.dilation_x = a.dilations[1];
  s.groups = a.groups;
  s.out_height = out_size(x[1], a.pads[0], a.pads[2], w[0], s.dilation_y, s.stride_y, x, w);
  s.out_width = out_size(x[2], a.pads[1], a.pads[3], w[1], s.dilation_x, s.stride_x, x, w);
  // Events, and weights of a block, are counted in 32 bits.
  constexpr int64_t kMostInRow = int64_t{1} << 25, kMostWeights = int64_t{1} << 30;
  if (padded_width(s) > kMostInRow / x[3]) refuse("a row of x " + to_string(x) + " is too large");
  if (w[0] * w[1] > kMostWeights / w[2]) refuse("W " + to_string(w) + " is too large");
  return s;
}

template <typename Op>
class Kernel {
 public:
  Kernel(const Api& api_table, const KernelInfo* info)
      : api(api_table),
        attributes_(api_table, info, Op::is_fused),
        kernels_(event_conv_kernels(required_instruction_set())) {
    const Input w = get_constant_input(api, info, kW), b = get_constant_input(api, info, kB);
    if (!w.present || !b.present) return;
    check_weights(w, b, attributes_.groups);
    weights_ = std::make_unique<const ConvWeights>(pack(w, b));
  }

  void compute(KernelContext* context) const {
    const Input x = get_input(api, context, kX), w = get_input(api, context, kW);
    check_weights(w, get_input(api, context, kB), attributes_.groups);
    EventConvCall call = {};
    const int64_t steps = Op::is_fused ? read_steps(get_input(api, context, kT)) : 1;
    call.shape = conv_shape(attributes_, x.shape, w.shape, steps);
    call.x = static_cast<const int8_t*>(x.data);
    call.is_fused = Op::is_fused;
    call.neuron = attributes_.neuron;
    bind_outputs(context, x.shape, &call);

    // Weights that are not constant are packed at every call.
    std::unique_ptr<const ConvWeights> fresh;
    if (weights_ == nullptr) {
      fresh = std::make_unique<const ConvWeights>(pack(w, get_input(api, context, kB)));
    }
    const ConvWeights& weights = fresh != nullptr ? *fresh : *weights_;
    call.blocks = weights.blocks().data();
    call.block_count = static_cast<int64_t>(weights.blocks().size());
    call.is_depthwise = weights.is_depthwise();
    run_event_conv(kernels_, call, SessionPool(api, context));
  }

  const Api& api;

 private:
  ConvWeights pack(const Input& w, const Input& b) const {
    return ConvWeights(static_cast<const float*>(w.data), static_cast<const float*>(b.data),
                       w.shape[0] * w.shape[1], w.shape[2], w.shape[3], attributes_.groups,
                       kernels_.block_width);
  }

  void bind_outputs(KernelContext* context, const Shape& x, EventConvCall* call) const {
    const ConvShape& s = call->shape;
    Shape out = {s.images, s.out_height, s.out_width, s.out_channels};
    const Shape state = out;
    out[0] *= s.steps;
    element_count(out);
    void* const y = get_output(api, context, kY, out);
    if (!Op::is_fused) {
      call->y = static_cast<float*>(y);
      return;
    }
    const Input v = get_input(api, context, kV), n = get_input(api, context, kN);
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

  Attributes attributes_;
  const EventConvKernels& kernels_;
  std::unique_ptr<const ConvWeights> weights_;
};

template <typename Op>
struct Callbacks {
  using K = Kernel<Op>;

  static ort_abi::Status* ORT_ABI_CALL create(const CustomOp*, const Api* api,
                                              const KernelInfo* info, void** kernel) {
    return guarded(api, Op::full_name, [&] { *kernel = new K(*api, info); });
  }
  static ort_abi::Status* ORT_ABI_CALL compute(void* kernel, KernelContext* context) {
    const K& self = *static_cast<const K*>(kernel);
    return guarded(&self.api, Op::full_name, [&] { self.compute(context); });
  }
  static void ORT_ABI_CALL destroy(void* kernel) { delete static_cast<K*>(kernel); }

  static const char* ORT_ABI_CALL name(const CustomOp*) { return Op::name; }
  static const char* ORT_ABI_CALL provider(const CustomOp*) { return nullptr; }  // the CPU
  static size_t ORT_ABI_CALL inputs(const CustomOp*) { return Op::inputs; }
  static size_t ORT_ABI_CALL outputs(const CustomOp*) { return Op::outputs; }
  static ElementType ORT_ABI_CALL input_type(const CustomOp*, size_t index) {
    return index == kX ? ort_abi::kInt8 : index == kT ? ort_abi::kInt64 : ort_abi::kFloat;
  }
  static ElementType ORT_ABI_CALL output_type(const CustomOp*, size_t index) {
    return Op::is_fused && index == kY ? ort_abi::kInt8 : ort_abi::kFloat;
  }
  static ort_abi::Characteristic ORT_ABI_CALL input_kind(const CustomOp*, size_t index) {
    return index <= kT ? ort_abi::kRequired : ort_abi::kOptional;
  }
  static ort_abi::Characteristic ORT_ABI_CALL output_kind(const CustomOp*, size_t index) {
    return index == kY ? ort_abi::kRequired : ort_abi::kOptional;
  }
  static ort_abi::MemoryType ORT_ABI_CALL memory(const CustomOp*, size_t) {
    return ort_abi::kDefaultMemory;
  }
};

}  // namespace

std::vector<const CustomOp*> event_conv_ops() {
  return {custom_op<Callbacks<EventConv>>(), custom_op<Callbacks<EventConvIFNeuron>>()};
}

}  // namespace onnx_snn
