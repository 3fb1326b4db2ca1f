// The form of tiles of EventConv: the events, zeros too, are written out in cells of int8, which
// AMX multiplies with the limbs of the weights into sums of int32. Included by
// event_conv_kernel.inl, with internal linkage: see if_neuron_kernel.inl.
#include <immintrin.h>

namespace onnx_snn {
namespace {

constexpr int64_t kTileRows = 16;                       // and columns
constexpr int64_t kTileSize = kTileRows * kTileInputs;  // bytes of a tile of events or of a limb
constexpr int64_t kSums = kTileRows * kTileRows;        // of a tile of sums

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

// A cell whose first kernel column is at pixel x of a row of events, in any place.
inline void write_cell(const ConvShape& s, const CellShape& cells, const int8_t* events, int64_t x,
                       int8_t* to) {
  const int64_t channels = s.group_channels();
  memset(to, 0, static_cast<size_t>(cells.size));
  for (int64_t tap = 0; tap < cells.taps; ++tap, x += s.dilation_x, to += channels) {
    if (x < 0 || x >= s.width) continue;
    memcpy(to, events + x * s.channels, static_cast<size_t>(channels));
  }
}

// The cells of a phase of the stride, of a row of events at one step. Cells of the columns are
// `column` bytes apart.
inline void write_phase(const ConvShape& s, const CellShape& cells, const int8_t* events,
                        int64_t phase, int64_t column, int8_t* to) {
  const int64_t bytes = cells.taps * s.group_channels(), pixel = s.stride_x * s.channels;
  const bool is_run = cells.taps == 1 || (s.dilation_x == 1 && s.groups == 1);
  const int64_t last = s.width - 1 - (cells.taps - 1) * s.dilation_x;  // of first columns
  int64_t x = phase - s.pad_left, i = 0;
  for (; i < cells.columns && (x < 0 || !is_run); ++i, x += s.stride_x, to += column) {
    write_cell(s, cells, events, x, to);
  }
  const int8_t* from = events + x * s.channels;
  const __mmask64 present = (uint64_t{1} << (bytes % kTileInputs)) - 1;
  const int64_t whole = bytes / kTileInputs * kTileInputs;
  for (; i < cells.columns && x <= last; ++i, x += s.stride_x, from += pixel, to += column) {
    for (int64_t at = 0; at < whole; at += kTileInputs) {
      _mm512_store_si512(to + at, _mm512_loadu_si512(from + at));
    }
    if (whole < bytes) {
      _mm512_store_si512(to + whole, _mm512_maskz_loadu_epi8(present, from + whole));
    }
  }
  for (; i < cells.columns; ++i, x += s.stride_x, to += column) {
    write_cell(s, cells, events, x, to);
  }
}

// Asks for a row of events, at least the beginning of it.
inline void prefetch_row(const int8_t* x, int64_t size) {
  constexpr int64_t kMostBytes = 2048;
  for (int64_t i = 0; i < size && i < kMostBytes; i += kTileInputs) prefetch(x + i);
}

// The cells of an input row of the first image of the part.
inline void write_cells(const EventConvCall& call, const ConvSource& source, int64_t y) {
  constexpr int64_t kAhead = 3;  // steps, which are far apart in memory
  const ConvShape& s = source.shape;
  if (!is_read(s, y)) return;
  const CellShape cells(s);
  const int64_t row = s.width * s.channels, step_size = s.images * s.height * row;
  const int8_t* x =
      source.x + call.first_step * step_size + (call.first_image * s.height + y) * row;
  const int64_t column = call.step_count * cells.size;
  int8_t* const to = source.cells + (y - source.first_cell_row) * source.cell_row_size;
  for (int64_t phase = 0; phase < s.stride_x; ++phase) {
    bool is_used = false;
    for (int64_t i = 0; i < cells.count; ++i) is_used |= cells.offset(s, i) % s.stride_x == phase;
    if (!is_used) continue;
    for (int64_t step = 0; step < call.step_count; ++step) {
      if (step + kAhead < call.step_count) prefetch_row(x + (step + kAhead) * step_size, row);
      for (int64_t group = 0; group < s.groups; ++group) {
        const int64_t columns = (group * s.stride_x + phase) * cells.columns;
        write_phase(s, cells, x + step * step_size + group * s.group_channels(), phase, column,
                    to + columns * column + step * cells.size);
      }
    }
  }
}

// What a tile of sums is the product of, for one block: kernel rows within the image, each of
// cells.
struct Factors {
  const int8_t* cells;       // of the first kernel row, at the first pixel and step
  int64_t kernel_row;        // from one kernel row to the next
  int64_t cell_size;         // from one pixel or step to the next
  const int8_t* limbs;       // of the first kernel row
  int64_t kernel_row_limbs;  // bytes
  int64_t kernel_rows;
  int64_t cell_count;
  const int64_t* offsets;  // of the cells of a kernel row

  Factors kernel_rows_from(int64_t first, int64_t most) const {
    Factors some = *this;
    some.cells += first * kernel_row;
    some.limbs += first * kernel_row_limbs;
    some.kernel_rows = kernel_rows - first < most ? kernel_rows - first : most;
    return some;
  }
};

// The sums [Rows, Limbs, 16, 16] of tiles of events times a column of tiles, from `row` on, added
// to what is there if Adds.
template <int Rows, int Limbs, bool Adds>
inline void multiply(const Factors& from, int64_t row, int32_t* sums) {
  constexpr int64_t kRow = kTileRows * sizeof(int32_t);
  constexpr int kTiles = Rows * Limbs;
  if constexpr (Adds) {
    _tile_loadd(0, sums, kRow);
    if constexpr (kTiles > 1) _tile_loadd(1, sums + kSums, kRow);
    if constexpr (kTiles > 2) _tile_loadd(2, sums + 2 * kSums, kRow);
    if constexpr (kTiles > 3) _tile_loadd(3, sums + 3 * kSums, kRow);
    if constexpr (kTiles > 4) _tile_loadd(4, sums + 4 * kSums, kRow);
    if constexpr (kTiles > 5) _tile_loadd(5, sums + 5 * kSums, kRow);
  } else {
    _tile_zero(0);
    if constexpr (kTiles > 1) _tile_zero(1);
    if constexpr (kTiles > 2) _tile_zero(2);
    if constexpr (kTiles > 3) _tile_zero(3);
    if constexpr (kTiles > 4) _tile_zero(4);
    if constexpr (kTiles > 5) _tile_zero(5);
  }
  const int64_t step = from.cell_size, next = kTileRows * step;
  const int8_t* kernel_row = from.cells + row * step;
  const int8_t* limbs = from.limbs;
  for (int64_t k = 0; k < from.kernel_rows; ++k, kernel_row += from.kernel_row) {
    for (int64_t i = 0; i < from.cell_count; ++i) {
      const int8_t* events = kernel_row + from.offsets[i];
      for (int64_t at = 0; at < step; at += kTileInputs, limbs += Limbs * kTileSize) {
        _tile_loadd(6, events + at, step);
        _tile_loadd(7, limbs, kTileInputs);
        _tile_dpbssd(0, 6, 7);
        if constexpr (Rows == 1) {
          if constexpr (Limbs > 1) {
            _tile_loadd(7, limbs + kTileSize, kTileInputs);
            _tile_dpbssd(1, 6, 7);
          }
          if constexpr (Limbs > 2) {
            _tile_loadd(7, limbs + 2 * kTileSize, kTileInputs);
            _tile_dpbssd(2, 6, 7);
          }
        } else if constexpr (Limbs == 1) {
          _tile_loadd(6, events + at + next, step);
          _tile_dpbssd(1, 6, 7);
        } else if constexpr (Limbs == 2) {
          _tile_loadd(5, limbs + kTileSize, kTileInputs);
          _tile_dpbssd(1, 6, 5);
          _tile_loadd(4, events + at + next, step);
          _tile_dpbssd(2, 4, 7);
          _tile_dpbssd(3, 4, 5);
        } else {
          _tile_loadd(6, events + at + next, step);
          _tile_dpbssd(3, 6, 7);
          _tile_loadd(7, limbs + kTileSize, kTileInputs);
          _tile_dpbssd(4, 6, 7);
          _tile_loadd(6, events + at, step);
          _tile_dpbssd(1, 6, 7);
          _tile_loadd(7, limbs + 2 * kTileSize, kTileInputs);
          _tile_dpbssd(2, 6, 7);
          _tile_loadd(6, events + at + next, step);
          _tile_dpbssd(5, 6, 7);
        }
      }
    }
  }
  _tile_stored(0, sums, kRow);
  if constexpr (kTiles > 1) _tile_stored(1, sums + kSums, kRow);
  if constexpr (kTiles > 2) _tile_stored(2, sums + 2 * kSums, kRow);
  if constexpr (kTiles > 3) _tile_stored(3, sums + 3 * kSums, kRow);
  if constexpr (kTiles > 4) _tile_stored(4, sums + 4 * kSums, kRow);
  if constexpr (kTiles > 5) _tile_stored(5, sums + 5 * kSums, kRow);
}

// start + scale * (sum0 + 256 * sum1 + 65536 * sum2), the sum rounded once.
template <int Limbs>
inline __m512 put_together(const int32_t* sums, __m512 scale, __m512 start) {
  const __m512i byte = _mm512_set1_epi32(255);
  const __m512i low = _mm512_load_si512(sums);
  __m512 total = _mm512_cvtepi32_ps(low);
  if constexpr (Limbs == 2) {
    const __m512i high =
        _mm512_add_epi32(_mm512_load_si512(sums + kSums), _mm512_srai_epi32(low, 8));
    total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(256.0f),
                            _mm512_cvtepi32_ps(_mm512_and_si512(low, byte)));
  } else if constexpr (Limbs == 3) {
    const __m512i middle =
        _mm512_add_epi32(_mm512_load_si512(sums + kSums), _mm512_srai_epi32(low, 8));
    const __m512i high =
        _mm512_add_epi32(_mm512_load_si512(sums + 2 * kSums), _mm512_srai_epi32(middle, 8));
    const __m512i rest = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(middle, byte), 8),
                                         _mm512_and_si512(low, byte));
    total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0f),
                            _mm512_cvtepi32_ps(rest));
  }
  return _mm512_fmadd_ps(total, scale, start);
}

template <int Limbs>
inline void multiply_pair(const Factors& from, bool adds, int64_t row, int64_t rows,
                          int32_t* sums) {
  const bool two = rows - row > kTileRows;
  if (adds) {
    (two ? multiply<2, Limbs, true> : multiply<1, Limbs, true>)(from, row, sums);
  } else {
    (two ? multiply<2, Limbs, false> : multiply<1, Limbs, false>)(from, row, sums);
  }
}

// What a product adds to `start`, whose rows are `start_step` apart, of 16 channels: [rows, 16].
template <int Limbs>
inline void add_product(const Factors& from, const float* scales, int64_t rows, const float* start,
                        int64_t start_step, float* to) {
  constexpr int64_t kFitting = int64_t{32} << 10;  // bytes of limbs, in the L1 cache beside events
  constexpr int64_t kPair = 2 * kTileRows, kRowSums = Limbs * kTileRows;
  alignas(64) int32_t sums[kMostRows * kRowSums];
  // If the limbs do not stay in the cache for all rows, then those of one kernel row do.
  const bool splits = from.kernel_rows * from.kernel_row_limbs > kFitting;
  int64_t first = 0;
  for (; splits && first + 1 < from.kernel_rows; ++first) {
    const Factors part = from.kernel_rows_from(first, 1);
    for (int64_t row = 0; row < rows; row += kPair) {
      multiply_pair<Limbs>(part, first > 0, row, rows, sums + row * kRowSums);
    }
  }
  const Factors last = from.kernel_rows_from(first, from.kernel_rows);
  const __m512 scale = _mm512_loadu_ps(scales);
  for (int64_t row = 0; row < rows; row += kPair) {
    int32_t* sum = sums + (splits ? row * kRowSums : 0);
    multiply_pair<Limbs>(last, first > 0, row, rows, sum);
    for (int64_t half = row; half < rows && half < row + kPair; half += kTileRows) {
      const int64_t left = rows - half < kTileRows ? rows - half : kTileRows;
      for (int64_t i = 0; i < left; ++i, to += kTileRows, start += start_step) {
        const __m512 begin = _mm512_loadu_ps(start);
        _mm512_storeu_ps(to, put_together<Limbs>(sum + i * kTileRows, scale, begin));
      }
      sum += kTileRows * kRowSums;
    }
  }
}

// 16 neurons, one step: the vectors of if_neuron_step.inl. The order of operands is that of the
// comparisons there, which sends a NaN to the lowest spike.
template <Fire fire, bool ToZero, bool Count>
inline __m512 step_vector(__m512 current, __m512* v, __m512* n, const Limits<float>& limits) {
  const __m512 zero = _mm512_setzero_ps(), threshold = _mm512_set1_ps(limits.threshold);
  const __m512 potential = _mm512_add_ps(*v, current);
  if (fire == Fire::kBinary) {
    const __mmask16 fires = _mm512_cmp_ps_mask(potential, threshold, _CMP_GE_OQ);
    const __m512 left = ToZero ? zero : _mm512_sub_ps(potential, threshold);
    const __m512 spike = _mm512_maskz_mov_ps(fires, _mm512_set1_ps(1.0f));
    *v = _mm512_mask_mov_ps(potential, fires, left);
    if (Count) *n = _mm512_add_ps(*n, spike);
    return spike;
  }
  __m512 lowest = _mm512_set1_ps(limits.spike_min), highest = _mm512_set1_ps(limits.spike_max);
  if (Count) {
    const __m512 down = _mm512_sub_ps(_mm512_set1_ps(limits.count_min), *n);
    const __m512 up = _mm512_sub_ps(_mm512_set1_ps(limits.count_max), *n);
    lowest = _mm512_min_ps(_mm512_max_ps(down, lowest), zero);
    highest = _mm512_max_ps(_mm512_min_ps(up, highest), zero);
  }
  const bool divides = fire == Fire::kDivided;
  const __m512 units = divides ? _mm512_div_ps(potential, threshold) : potential;
  __m512 spike = _mm512_roundscale_ps(units, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  spike = _mm512_min_ps(_mm512_max_ps(spike, lowest), highest);
  const __m512 taken = divides ? _mm512_mul_ps(spike, threshold) : spike;
  const __mmask16 fires = _mm512_cmp_ps_mask(spike, zero, _CMP_NEQ_UQ);
  *v = ToZero ? _mm512_mask_mov_ps(potential, fires, zero) : _mm512_sub_ps(potential, taken);
  if (Count) *n = _mm512_add_ps(*n, spike);
  return spike;
}

// Where 16 channels of a tile are, of its pixels.
struct Neurons {
  const float* currents;  // [pixels, steps, 16]
  int64_t steps, pixels;
  float* v;  // [pixels, width], from the first of the channels on
  float* n;
  int8_t* spikes;  // [steps, pixels, width]
  int64_t width;
};

// P pixels from `first` on: the steps of one wait for one another, those of several do not.
template <Fire fire, bool ToZero, bool Count, int P>
inline void step_pixels(const Neurons& at, int64_t first, const Limits<float>& limits) {
  __m512 v[P], n[P];
  for (int p = 0; p < P; ++p) {
    v[p] = _mm512_loadu_ps(at.v + (first + p) * at.width);
    n[p] = Count ? _mm512_loadu_ps(at.n + (first + p) * at.width) : _mm512_setzero_ps();
  }
  const float* current = at.currents + first * at.steps * kTileRows;
  int8_t* spikes = at.spikes + first * at.width;
  for (int64_t step = 0; step < at.steps; ++step) {
    for (int p = 0; p < P; ++p) {
      const __m512 x = _mm512_loadu_ps(current + (p * at.steps + step) * kTileRows);
      const __m512 spike = step_vector<fire, ToZero, Count>(x, v + p, n + p, limits);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(spikes + p * at.width),
                       _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(spike)));
    }
    spikes += at.pixels * at.width;
  }
  for (int p = 0; p < P; ++p) {
    _mm512_storeu_ps(at.v + (first + p) * at.width, v[p]);
    if (Count) _mm512_storeu_ps(at.n + (first + p) * at.width, n[p]);
  }
}

template <Fire fire, bool ToZero, bool Count>
void step_neurons(const Neurons& at, const Limits<float>& limits) {
  int64_t pixel = 0;
  for (; pixel + 4 <= at.pixels; pixel += 4) {
    step_pixels<fire, ToZero, Count, 4>(at, pixel, limits);
  }
  for (; pixel + 2 <= at.pixels; pixel += 2) {
    step_pixels<fire, ToZero, Count, 2>(at, pixel, limits);
  }
  if (pixel < at.pixels) step_pixels<fire, ToZero, Count, 1>(at, pixel, limits);
}

using StepNeurons = void (*)(const Neurons& at, const Limits<float>& limits);

template <bool ToZero, bool Count>
StepNeurons choose_neurons(const IFNeuronAttributes& a) {
  if (a.is_binary()) return step_neurons<Fire::kBinary, ToZero, Count>;
  if (a.v_threshold == 1.0f) return step_neurons<Fire::kUnit, ToZero, Count>;
  return step_neurons<Fire::kDivided, ToZero, Count>;
}

inline StepNeurons choose_neurons(const IFNeuronAttributes& a, bool count) {
  if (a.reset_to_zero) {
    return count ? choose_neurons<true, true>(a) : choose_neurons<true, false>(a);
  }
  return count ? choose_neurons<false, true>(a) : choose_neurons<false, false>(a);
}

}  // namespace
}  // namespace onnx_snn
