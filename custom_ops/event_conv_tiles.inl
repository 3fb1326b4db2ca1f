// The form of tiles of EventConv: the events under the kernel, zeros too, are written out as rows
// of a matrix of int8, which AMX multiplies with the limbs of the weights into sums of int32.
// Included by event_conv_kernel.inl, with internal linkage: see if_neuron_kernel.inl.
#include <immintrin.h>

namespace onnx_snn {
namespace {

constexpr int64_t kTileRows = 16;                       // and columns
constexpr int64_t kTileSize = kTileRows * kTileInputs;  // bytes of a tile of events or of a limb
constexpr int64_t kSums = kTileRows * kTileRows;        // of a tile of sums
constexpr int64_t kMatrixBytes = int64_t{160} << 10;    // leaves room in the L2 cache for weights
constexpr int64_t kVector = 64;                         // bytes that are copied at a time

// Eight tiles of 16 rows of 64 bytes, while this object lives.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      uint8_t palette, start_row, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    } shapes = {};
    shapes.palette = 1;
    for (int i = 0; i < 8; ++i) {
      shapes.row_bytes[i] = kTileInputs;
      shapes.rows[i] = kTileRows;
    }
    _tile_loadconfig(&shapes);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Both write up to 63 bytes more than `count`, and return the end of what counts. The first does
// not read beyond `end`.
inline int8_t* copy_bytes(const int8_t* from, const int8_t* end, int64_t count, int8_t* to) {
  if (end - from < count + kVector) {
    memcpy(to, from, static_cast<size_t>(count));
    return to + count;
  }
  for (int64_t i = 0; i < count; i += kVector) {
    _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
  }
  return to + count;
}
inline int8_t* write_zeros(int64_t count, int8_t* to) {
  for (int64_t i = 0; i < count; i += kVector) {
    _mm512_storeu_si512(to + i, _mm512_setzero_si512());
  }
  return to + count;
}

// What is under the kernel at an output pixel [kernel rows, kernel columns, channels of the group],
// filled up with zeros to `size`, and up to 63 bytes more. image: of the events, from the first
// channel of the group on; end: of all events.
inline void write_row(const ConvShape& s, const int8_t* image, const int8_t* end, int64_t out_y,
                      int64_t out_x, int64_t size, int8_t* to) {
  const int64_t channels = s.group_channels(), run = s.kernel_width * channels;
  const int64_t first_x = out_x * s.stride_x - s.pad_left;
  const bool is_run =
      s.groups == 1 && s.dilation_x == 1 && first_x >= 0 && first_x + s.kernel_width <= s.width;
  int8_t* const row_end = to + size;
  for (int64_t k = 0; k < s.kernel_height; ++k) {
    const int64_t y = out_y * s.stride_y - s.pad_top + k * s.dilation_y;
    const int8_t* row = image + y * s.width * s.channels;
    if (y < 0 || y >= s.height) {
      to = write_zeros(run, to);
    } else if (is_run) {
      to = copy_bytes(row + first_x * channels, end, run, to);
    } else {
      for (int64_t i = 0; i < s.kernel_width; ++i) {
        const int64_t x = first_x + i * s.dilation_x;
        const bool is_inside = x >= 0 && x < s.width;
        to = is_inside ? copy_bytes(row + x * s.channels, end, channels, to)
                       : write_zeros(channels, to);
      }
    }
  }
  write_zeros(row_end - to, to);
}

// The sums [two ? 2 : 1, kLimbs, 16, 16] of one or two tiles of events times a column of tiles.
template <bool Two>
inline void multiply(const int8_t* events, int64_t row_size, const int8_t* limbs, int64_t parts,
                     int32_t* sums) {
  const int8_t* const others = events + kTileRows * row_size;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  if (Two) {
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
  }
  for (int64_t part = 0; part < parts; ++part, limbs += kLimbs * kTileSize) {
    const int64_t at = part * kTileInputs;
    _tile_loadd(6, events + at, row_size);
    _tile_loadd(7, limbs, kTileInputs);
    _tile_dpbssd(0, 6, 7);
    if (Two) {
      _tile_loadd(6, others + at, row_size);
      _tile_dpbssd(3, 6, 7);
      _tile_loadd(7, limbs + kTileSize, kTileInputs);
      _tile_dpbssd(4, 6, 7);
      _tile_loadd(6, events + at, row_size);
      _tile_dpbssd(1, 6, 7);
      _tile_loadd(7, limbs + 2 * kTileSize, kTileInputs);
      _tile_dpbssd(2, 6, 7);
      _tile_loadd(6, others + at, row_size);
      _tile_dpbssd(5, 6, 7);
    } else {
      _tile_loadd(7, limbs + kTileSize, kTileInputs);
      _tile_dpbssd(1, 6, 7);
      _tile_loadd(7, limbs + 2 * kTileSize, kTileInputs);
      _tile_dpbssd(2, 6, 7);
    }
  }
  constexpr int64_t kRow = kTileRows * sizeof(int32_t);
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + kSums, kRow);
  _tile_stored(2, sums + 2 * kSums, kRow);
  if (Two) {
    _tile_stored(3, sums + 3 * kSums, kRow);
    _tile_stored(4, sums + 4 * kSums, kRow);
    _tile_stored(5, sums + 5 * kSums, kRow);
  }
}

// start + scale * (sum0 + 256 * sum1 + 65536 * sum2), the sum rounded once.
inline __m512 put_together(const int32_t* sums, __m512 scale, __m512 start) {
  const __m512i byte = _mm512_set1_epi32(255);
  const __m512i low = _mm512_load_si512(sums);
  const __m512i middle =
      _mm512_add_epi32(_mm512_load_si512(sums + kSums), _mm512_srai_epi32(low, 8));
  const __m512i high =
      _mm512_add_epi32(_mm512_load_si512(sums + 2 * kSums), _mm512_srai_epi32(middle, 8));
  const __m512i rest = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(middle, byte), 8),
                                       _mm512_and_si512(low, byte));
  const __m512 total =
      _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(rest));
  return _mm512_fmadd_ps(total, scale, start);
}

// Adds to `start`, whose rows [steps * pixels] are `start_step` apart, the currents of rows
// [steps, pixels] from `first` on, which are `row_size` bytes of `matrix` each.
inline void multiply_rows(const ConvBlock& block, const int8_t* matrix, int64_t row_size,
                          int64_t first, int64_t count, const float* start, int64_t start_step,
                          float* currents) {
  alignas(64) int32_t sums[2 * kLimbs * kSums];
  const int64_t parts = row_size / kTileInputs;
  const int8_t* limbs = block.limbs;
  for (int64_t channel = 0; channel < block.width; channel += kTileRows) {
    const __m512 scale = _mm512_loadu_ps(block.scales + channel);
    for (int64_t row = 0; row < count; row += 2 * kTileRows) {
      const bool two = count - row > kTileRows;
      const int8_t* events = matrix + row * row_size;
      (two ? multiply<true> : multiply<false>)(events, row_size, limbs, parts, sums);
      for (int64_t half = row; half < count && half < row + 2 * kTileRows; half += kTileRows) {
        const int32_t* from = sums + (half - row) * kLimbs * kTileRows;
        const int64_t left = count - half < kTileRows ? count - half : kTileRows;
        const float* begin = start + (first + half) * start_step + channel;
        float* to = currents + (first + half) * block.width + channel;
        for (int64_t i = 0; i < left; ++i) {
          _mm512_storeu_ps(to, put_together(from, scale, _mm512_loadu_ps(begin)));
          from += kTileRows;
          begin += start_step;
          to += block.width;
        }
      }
    }
    limbs += parts * kLimbs * kTileSize;
  }
}

}  // namespace
}  // namespace onnx_snn
