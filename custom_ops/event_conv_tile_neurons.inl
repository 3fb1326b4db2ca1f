// Tiles of output pixels whose form is that of tiles, and their neurons. Included by
// event_conv_kernel.inl, with internal linkage: see if_neuron_kernel.inl.
namespace onnx_snn {
namespace {

constexpr bool kHasTiles = true;

// The kernel rows within the image, of a tile whose form is that of tiles.
struct TileRows {
  int64_t offsets[kMostCells];
  Factors factors;
  int64_t limbs;  // from 16 channels to the next

  explicit TileRows(const Tile& tile) {
    const ConvShape& s = tile.source.shape;
    const ConvBlock& block = tile.block;
    const CellShape cells(s);
    const int64_t column = tile.call.step_count * cells.size;
    const int64_t row = tile.source.cell_row_size;
    for (int64_t cell = 0; cell < cells.count; ++cell) {
      const int64_t offset = cells.offset(s, cell);
      offsets[cell] = (offset % s.stride_x * cells.columns + offset / s.stride_x) * column;
    }
    const int64_t above = s.pad_top - tile.y * s.stride_y;
    const int64_t first = above > 0 ? (above + s.dilation_y - 1) / s.dilation_y : 0;
    const int64_t y = first * s.dilation_y - above;
    const int64_t below = (s.height - y + s.dilation_y - 1) / s.dilation_y;
    const int64_t row_limbs = cells.count * cells.size / kTileInputs * block.limb_count * kTileSize;
    const int64_t x = block.group * s.stride_x * cells.columns + tile.x;
    factors.cells = tile.source.cells + (y - tile.source.first_cell_row) * row + x * column +
                    tile.step * cells.size;
    factors.kernel_row = s.dilation_y * row;
    factors.cell_size = cells.size;
    factors.limbs = block.limbs + first * row_limbs;
    factors.kernel_row_limbs = row_limbs;
    factors.kernel_rows = clamp(below, clamp(s.kernel_height - first, s.kernel_height));
    factors.cell_count = cells.count;
    factors.offsets = offsets;
    limbs = s.kernel_height * row_limbs;
  }

  // What the product adds to `start`, of 16 channels from `channel` on: [rows, 16].
  void add(const ConvBlock& block, int64_t channel, int64_t rows, const float* start,
           int64_t start_step, float* to) const {
    Factors from = factors;
    from.limbs += channel / kTileRows * limbs;
    const auto add = block.limb_count == 1   ? add_product<1>
                     : block.limb_count == 2 ? add_product<2>
                                             : add_product<3>;
    add(from, block.scales + channel, rows, start, start_step, to);
  }
};

// The currents [steps, pixels, width] of a tile: all steps of the part, or those of one pixel.
void add_up_tiles(const Tile& tile, int64_t steps, const float* start, int64_t start_step,
                  float* currents) {
  alignas(64) float sums[kMostRows * kTileRows];  // [pixels, steps, 16]
  const float zeros[kTileRows] = {};
  const int64_t width = tile.block.width, pixels = tile.pixels;
  const TileRows rows(tile);
  for (int64_t channel = 0; channel < width; channel += kTileRows) {
    // A start that differs from row to row is of another convolution, whose sum comes first.
    const float* bias = start_step == 0 ? start + channel : zeros;
    rows.add(tile.block, channel, steps * pixels, bias, 0, sums);
    const float* sum = sums;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      for (int64_t step = 0; step < steps; ++step, sum += kTileRows) {
        const int64_t row = step * pixels + pixel;
        float* to = currents + row * width + channel;
        __m512 total = _mm512_loadu_ps(sum);
        if (start_step != 0) {
          total = _mm512_add_ps(_mm512_loadu_ps(start + row * start_step + channel), total);
        }
        _mm512_storeu_ps(to, total);
      }
    }
  }
}

// Adds events times a factor for each channel to currents [pixels, steps, 16] of a tile: a
// shortcut.
void add_scaled_events(Tile tile, int64_t channel, int64_t steps, float* currents) {
  const ConvShape& s = tile.source.shape;
  const int64_t pixel = tile.y * s.stride_y * s.width + tile.x * s.stride_x;
  const int64_t step_size = s.images * s.height * s.width * s.channels;
  const int8_t* values = image_of(tile) + tile.block.first_channel + channel + pixel * s.channels;
  const Vector factor = load(tile.block.weights + channel);
  for (int64_t p = 0; p < tile.pixels; ++p, values += s.stride_x * s.channels) {
    for (int64_t step = 0; step < steps; ++step, currents += kTileRows) {
      store(multiply_add(load(values + step * step_size), factor, load(currents)), currents);
    }
  }
}

bool has_tile_neurons(const EventConvCall& call, const ConvBlock& block) {
  const ConvSource& added = call.sources[call.source_count - 1];
  const bool is_alike = added.form == Form::kTiles ||
                        (added.form == Form::kChannels && block.channels == block.width);
  return call.is_fused && call.sources[0].form == Form::kTiles && is_alike;
}

// Asks for where spikes will be written, and for events that are added alone: the steps are far
// apart in memory.
void prefetch_steps(const Tile& tile, const Tile& added, int64_t steps) {
  const EventConvCall& call = tile.call;
  const ConvShape &s = call.shape(), &from = added.source.shape;
  const int64_t image = (call.first_step + tile.step) * s.images + call.first_image + tile.image;
  const int64_t pixel = (image * s.out_height + tile.y) * s.out_width + tile.x;
  const int8_t* to = call.s + pixel * s.out_channels + tile.block.first_channel;
  const int64_t size = (tile.pixels - 1) * s.out_channels + tile.block.channels;
  const int64_t step_size = s.images * s.out_pixels() * s.out_channels;
  const bool adds = added.source.form == Form::kChannels;
  const int64_t first = tile.y * from.stride_y * from.width + tile.x * from.stride_x;
  const int8_t* events = image_of(added) + first * from.channels + tile.block.first_channel;
  for (int64_t step = 0; step < steps; ++step, to += step_size) {
    for (int64_t i = 0; i < size; i += kTileInputs) __builtin_prefetch(to + i, 1);
    for (int64_t i = 0; adds && i < size; i += kTileInputs) prefetch(events + i);
    events += from.images * from.height * from.width * from.channels;
  }
}

// The spikes [steps, pixels, width] of a tile, and its neurons after them.
void run_tile_neurons(const Tile& tile, const Tile& added, int64_t steps, StepNeurons step,
                      const Limits<float>& limits, float* v, float* n, int8_t* spikes) {
  alignas(64) float currents[kMostRows * kTileRows];  // [pixels, steps, 16]
  const ConvBlock& block = tile.block;
  const bool adds = tile.call.source_count > 1, adds_tiles = added.source.form == Form::kTiles;
  const TileRows rows(tile), added_rows(adds && adds_tiles ? added : tile);
  const int64_t count = steps * tile.pixels;
  prefetch_steps(tile, added, steps);
  for (int64_t channel = 0; channel < block.width; channel += kTileRows) {
    rows.add(block, channel, count, block.bias + channel, 0, currents);
    if (adds && adds_tiles) {
      added_rows.add(added.block, channel, count, currents, kTileRows, currents);
    } else if (adds) {
      add_scaled_events(added, channel, steps, currents);
    }
    step({currents, steps, tile.pixels, v + channel, n + channel, spikes + channel, block.width},
         limits);
  }
}

}  // namespace
}  // namespace onnx_snn
