// A convolution that touches active inputs only, alone, with the neuron that follows it, or with a
// second convolution added to it before that, free of onnxruntime: what the kernels are told.
//
// x [steps * images, height, width, channels] are events: small integers, nearly all of them 0. A
// current is the bias and then, in this order, value * weight of every event under the kernel:
// kernel rows, kernel columns and channels, each upwards; then the same of the second convolution.
// So these ways to compute it give the same bits, and neither threads nor the choice among them
// show in a result. The form of tiles, where a processor has them, is the exception: it adds up
// integers, without rounding, and rounds the weights to 22 bits of the greatest of an output and
// the sum once. Where weights fit in that, as in networks whose sums are exact, it gives the same.
#pragma once

#include <cstdint>

#include "if_neuron.h"

namespace onnx_snn {

struct ConvShape {
  int64_t steps = 1, images = 0;
  int64_t height = 0, width = 0, channels = 0;
  int64_t out_height = 0, out_width = 0, out_channels = 0;
  int64_t kernel_height = 1, kernel_width = 1;
  int64_t stride_y = 1, stride_x = 1;
  int64_t pad_top = 0, pad_left = 0;
  int64_t dilation_y = 1, dilation_x = 1;
  int64_t groups = 1;

  int64_t group_channels() const { return channels / groups; }
  int64_t out_pixels() const { return out_height * out_width; }
};

// Weights as the kernels read them: blocks of output channels of one group, 16 * k wide, filled up
// with zeros. Of a block, the weights are [kernel_height, kernel_width, channels of a group,
// width].
struct ConvBlock {
  const float* weights;
  const float* bias;      // [width]
  int64_t width;          // a multiple of kBlockStep, up to what the kernels take
  int64_t first_channel;  // of the output
  int64_t channels;       // of them that exist
  int64_t group;

  // For the form of tiles; null: not in it. Of 16 channels after the other: of each kernel row,
  // each cell and 64 bytes of it, the limbs that go with them, lowest first: [64 / 4, 16, 4].
  // weight = (limb0 + 256 * limb1 + 65536 * limb2) * scale of the channel
  const int8_t* limbs;
  const float* scales;  // [width]
  int64_t limb_count;   // as many as the weights need
};

constexpr int64_t kTileInputs = 64;
constexpr int64_t kMostCells = 64;  // of a kernel row

constexpr int64_t kBlockStep = 16;

// Input rows of one image at one step whose events are listed together, in 32-bit words:
//     starts [kRowsTogether]          of the rows that are read, in words
// and of each row
//     is_unit                         every event is 1
//     offsets [groups, width + 1]     into entries: those of a pixel, in one group
//     entries                         pixel * channels of a group + channel in the group, ascending
//     values                          of the entries, as float; only where not is_unit
// or, of the form kValues, the values [padded width, channels] as float.
constexpr int64_t kRowsTogether = 8;

// Whether the kernel ever comes to lie on an input row.
inline bool is_read(const ConvShape& s, int64_t y) {
  for (int64_t k = 0; k < s.kernel_height; ++k) {
    if ((y + s.pad_top - k * s.dilation_y) % s.stride_y == 0) return true;
  }
  return false;
}

inline int64_t row_groups(const ConvShape& s) {
  return (s.height + kRowsTogether - 1) / kRowsTogether;
}

// The events of an input row as the form of tiles reads them: in cells, of which each kernel row
// multiplies a few. A cell is what is under neighbouring kernel columns at one step, their channels
// of one group side by side, filled up with zeros. Steps of a cell follow each other, and then
// columns of the output, so that the rows of a tile are one piece of memory, and no kernel column
// needs a copy of its own. Of a row: [groups, phases of the stride, columns, steps, size].
struct CellShape {
  int64_t taps;     // kernel columns in a cell
  int64_t size;     // bytes, a multiple of kTileInputs
  int64_t count;    // of a kernel row
  int64_t columns;  // of a phase

  CellShape(int64_t channels, int64_t kernel_width)
      : taps(channels * 2 > kTileInputs ? 1 : kTileInputs / channels),
        size((channels * taps + kTileInputs - 1) / kTileInputs * kTileInputs),
        count((kernel_width + taps - 1) / taps),
        columns(0) {}
  explicit CellShape(const ConvShape& s) : CellShape(s.group_channels(), s.kernel_width) {
    columns = s.out_width + offset(s, count - 1) / s.stride_x;
  }

  // Of a cell from the first one of its kernel row, in pixels of the input.
  int64_t offset(const ConvShape& s, int64_t cell) const { return cell * taps * s.dilation_x; }
  // Of an input row, for one step.
  int64_t row_size(const ConvShape& s) const { return s.groups * s.stride_x * columns * size; }
};

// How currents are added up: event by event; of all values, zeros too, in vectors or in tiles; or
// channel by channel.
enum class Form { kEvents, kValues, kTiles, kChannels };

// A convolution whose currents are added up.
struct ConvSource {
  ConvShape shape;
  const int8_t* x;
  const ConvBlock* blocks;
  bool is_depthwise;  // a channel of its own for each output

  Form form;
  int32_t* rows;  // lists [image_count, step_count, row_groups, list_size] of events or values
  int64_t list_size;

  // Of the form of tiles: cells of input rows of first_image, from one of them on.
  int8_t* cells;
  int64_t first_cell_row, cell_row_size;

  bool has_lists() const { return form == Form::kEvents || form == Form::kValues; }
};

constexpr int kMostSources = 2;

struct EventConvCall {
  // They agree in steps, images, the size of the output and its blocks. Biases are the first one's.
  ConvSource sources[kMostSources];
  int source_count;
  int64_t block_count;
  IFNeuronAttributes neuron;
  bool is_fused;

  // The part of the call that is done at once.
  int64_t first_image, image_count;
  int64_t first_step, step_count;

  // State before first_step, and where to put the one after it, both [images, out_height, ...].
  const float* v;
  const float* n;
  bool v_is_scalar, n_is_scalar;
  float* v_next;
  float* n_next;
  bool tracks_count;

  int8_t* s;  // fused: [steps * images, out_height, out_width, out_channels]
  float* y;   // or not

  const ConvShape& shape() const { return sources[0].shape; }
};

// Output pixels of one row that are computed together over all steps: at most so many, and fewer
// where the currents of all these steps are held at once.
constexpr int64_t kTilePixels = 32, kMostRows = 128;

inline bool has_cells(const EventConvCall& call) {
  bool has = false;
  for (int k = 0; k < call.source_count; ++k) has |= call.sources[k].form == Form::kTiles;
  return has;
}

inline int64_t tile_pixels(const EventConvCall& call) {
  const int64_t fitting = has_cells(call) ? kMostRows / call.step_count : kTilePixels;
  return fitting < 1 ? 1 : fitting < kTilePixels ? fitting : kTilePixels;
}

inline int64_t tiles_per_row(const EventConvCall& call) {
  return (call.shape().out_width + tile_pixels(call) - 1) / tile_pixels(call);
}

// Pixels of a row of the dense form: the padding on both sides is written out.
inline int64_t padded_width(const ConvShape& s) {
  const int64_t needed = (s.out_width - 1) * s.stride_x + (s.kernel_width - 1) * s.dilation_x + 1;
  const int64_t given = s.width + s.pad_left;
  return needed > given ? needed : given;
}

}  // namespace onnx_snn
