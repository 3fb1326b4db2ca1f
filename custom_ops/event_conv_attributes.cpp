#include "event_conv_attributes.h"

#include <string>

#include "folded_time.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::KernelInfo;

int64_t read_groups(const Api& api, const KernelInfo* info, const char* name) {
  const int64_t groups = get_attribute(api, info, name, int64_t{1});
  if (groups < 1) refuse(std::string(name) + " must be 1 or more, not " + std::to_string(groups));
  return groups;
}

void check_groups(const Input& w, const ConvAttributes& a) {
  if (w.shape[3] % a.groups == 0) return;
  refuse(std::string(a.w) + " has " + std::to_string(w.shape[3]) +
         " output channels, which is not a multiple of " + a.group + " = " +
         std::to_string(a.groups) + " (" + a.w + " shape " + to_string(w.shape) + ")");
}

// Output size along an axis.
int64_t out_size(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t dilation,
                 int64_t stride, const ConvAttributes& a, const Shape& x, const Shape& w) {
  const int64_t reach = (kernel - 1) * dilation + 1, padded = size + before + after;
  if (size < 1 || reach > padded) {
    refuse(std::string("the kernel of ") + a.w + " " + to_string(w) + " is larger than " + a.x +
           " " + to_string(x) + " with its padding");
  }
  return (padded - reach) / stride + 1;
}

}  // namespace

ConvAttributes read_conv_attributes(const Api& api, const KernelInfo* info) {
  ConvAttributes a;
  a.strides = read_integers(api, info, "strides", {1, 1}, 2, 1);
  a.pads = read_integers(api, info, "pads", {0, 0, 0, 0}, 4, 0);
  a.dilations = read_integers(api, info, "dilations", {1, 1}, 2, 1);
  a.groups = read_groups(api, info, a.group);
  return a;
}

ConvAttributes read_shortcut_attributes(const Api& api, const KernelInfo* info) {
  ConvAttributes a;
  a.x = "r";
  a.w = "R";
  a.group = "shortcut_group";
  a.strides = read_integers(api, info, "shortcut_strides", {1, 1}, 2, 1);
  a.pads = {0, 0, 0, 0};
  a.dilations = {1, 1};
  a.groups = read_groups(api, info, a.group);
  return a;
}

void check_weights(const Input& w, const Input& b, const ConvAttributes& a) {
  if (w.shape.size() != 4 || element_count(w.shape) == 0) {
    refuse("W must be [kH, kW, C/group, M] and not empty, not " + to_string(w.shape));
  }
  check_groups(w, a);
  if (b.shape != Shape{w.shape[3]}) {
    refuse("B has shape " + to_string(b.shape) + ", but [" + std::to_string(w.shape[3]) +
           "] is needed (W shape " + to_string(w.shape) + ")");
  }
}

void check_shortcut_weights(const Input& r, const Input& w, const ConvAttributes& a) {
  const bool fits = r.shape.size() == 4 && r.shape[0] == 1 && r.shape[1] == 1 &&
                    element_count(r.shape) > 0 && r.shape[3] == w.shape[3];
  if (!fits) {
    refuse("R must be [1, 1, C'/shortcut_group, " + std::to_string(w.shape[3]) +
           "] and not empty, not " + to_string(r.shape) + " (W shape " + to_string(w.shape) + ")");
  }
  check_groups(r, a);
}

WeightShape weight_shape(const Input& w, const ConvAttributes& a) {
  return {w.shape[0], w.shape[1], w.shape[2], w.shape[3], a.groups};
}

ConvShape conv_shape(const ConvAttributes& a, const Shape& x, const Shape& w, int64_t steps) {
  const std::string x_name = a.x, w_name = a.w;
  if (x.size() != 4) refuse(x_name + " must be [T*N, H, W, C], not " + to_string(x));
  if (x[3] != w[2] * a.groups) {
    refuse(x_name + " has " + std::to_string(x[3]) + " channels, but " + w_name + " wants " +
           std::to_string(w[2] * a.groups) + " (" + x_name + " shape " + to_string(x) + ", " +
           w_name + " shape " + to_string(w) + ", " + a.group + " = " + std::to_string(a.groups) +
           ")");
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
  s.out_height = out_size(x[1], a.pads[0], a.pads[2], w[0], s.dilation_y, s.stride_y, a, x, w);
  s.out_width = out_size(x[2], a.pads[1], a.pads[3], w[1], s.dilation_x, s.stride_x, a, x, w);
  // Events, and weights of a block, are counted in 32 bits.
  constexpr int64_t kMostInRow = int64_t{1} << 25, kMostWeights = int64_t{1} << 30;
  if (padded_width(s) > kMostInRow / x[3]) {
    refuse("a row of " + x_name + " " + to_string(x) + " is too large");
  }
  if (w[0] * w[1] > kMostWeights / w[2]) refuse(w_name + " " + to_string(w) + " is too large");
  return s;
}

void check_sum(const ConvShape& conv, const Shape& x, const ConvShape& shortcut, const Shape& r) {
  const std::string shapes = " (x shape " + to_string(x) + ", r shape " + to_string(r) + ")";
  if (shortcut.images != conv.images) {
    refuse("r has " + std::to_string(r[0]) + " rows, but x has " + std::to_string(x[0]) + shapes);
  }
  if (shortcut.out_height != conv.out_height || shortcut.out_width != conv.out_width) {
    const auto size = [](const ConvShape& s) { return to_string({s.out_height, s.out_width}); };
    refuse("the shortcut's output is of the size " + size(shortcut) +
           ", but the convolution's of " + size(conv) + shapes);
  }
}

}  // namespace onnx_snn
