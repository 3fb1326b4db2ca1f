// Moving rows between tensors and the kernel's arithmetic: float16 conversion and streaming stores.
// Included by the kernels of the neurons, with internal linkage: see if_neuron_kernel.inl.
#include <stdint.h>
#include <string.h>

#include "kernel_types.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#define ONNX_SNN_HAS_F16C 1
#define ONNX_SNN_HAS_SSE2 1
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define ONNX_SNN_HAS_SSE2 1
#endif

namespace onnx_snn {
namespace {

// The state of one chunk stays in the L1 cache for all steps. Rows pass through in blocks.
constexpr int64_t kChunk = 2048;
constexpr int64_t kBlock = 256;

inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Exact. Scaling by a power of two moves the exponent, and normalises subnormals on the way.
inline float half_to_float(Half half) {
  const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half.bits & 0x7fffu) << 13;
  const uint32_t infinite = magnitude >= (0x7c00u << 13) ? 0x7f800000u : 0u;
  const float scaled = bits_to_float(magnitude) * bits_to_float(0x77800000u);  // 2^112
  return bits_to_float(sign | float_to_bits(scaled) | infinite);
}

// Rounds to nearest, ties to even, as the hardware does.
inline Half float_to_half(float value) {
  const uint32_t bits = float_to_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (magnitude >= 0x47800000u) {
    half = 0x7c00u;  // 65536 and above: infinity
  } else if (magnitude < 0x38800000u) {
    // Below 2^-14, a subnormal: adding 0.5 lets the float unit do the rounding, at step 2^-24.
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return Half{static_cast<uint16_t>(sign | half)};
}

template <typename T>
inline void read_row(const T* from, int64_t size, T* to) {
  memcpy(to, from, static_cast<size_t>(size) * sizeof(T));
}

template <typename T>
inline void write_row(const T* from, int64_t size, T* to) {
  memcpy(to, from, static_cast<size_t>(size) * sizeof(T));
}

inline void read_row(const Half* from, int64_t size, float* to) {
  int64_t i = 0;
#ifdef ONNX_SNN_HAS_F16C
  for (; i + 8 <= size; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(halves));
  }
#endif
  for (; i < size; ++i) to[i] = half_to_float(from[i]);
}

inline void write_row(const float* from, int64_t size, Half* to) {
  int64_t i = 0;
#ifdef ONNX_SNN_HAS_F16C
  for (; i + 8 <= size; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
#endif
  for (; i < size; ++i) to[i] = float_to_half(from[i]);
}

// Stores that do not read the line first and do not evict what the next layer will want.
template <typename T>
inline void stream_row(const T* from, int64_t size, T* to) {
  int64_t i = 0;
#ifdef ONNX_SNN_HAS_SSE2
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t past_line = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % 64 / sizeof(T));
  int64_t head = (kLine - past_line) % kLine;
  if (head > size) head = size;
  write_row(from, head, to);
  for (i = head; i + kLine <= size; i += kLine) {
    const __m128i* source = reinterpret_cast<const __m128i*>(from + i);
    __m128i* line = reinterpret_cast<__m128i*>(to + i);
    for (int part = 0; part < 4; ++part) {
      _mm_stream_si128(line + part, _mm_loadu_si128(source + part));
    }
  }
#endif
  write_row(from + i, size - i, to + i);
}

// Asks for a row ahead of its use: the jump from one step's row to the next is beyond what the
// processor foresees by itself. Into the L2 cache: the L1 is full of state.
template <typename T>
inline void prefetch_row(const T* row, int64_t size) {
#ifdef ONNX_SNN_HAS_SSE2
  const char* bytes = reinterpret_cast<const char*>(row);
  const int64_t end = size * static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < end; i += 64) _mm_prefetch(bytes + i, _MM_HINT_T1);
#else
  (void)row;
  (void)size;
#endif
}

inline void end_streaming() {
#ifdef ONNX_SNN_HAS_SSE2
  _mm_sfence();
#endif
}

// A row that needs no conversion is read, and unless it is streamed written, where it lies.
template <typename T>
inline const T* row_for_reading(const T* row, int64_t, T*) {
  return row;
}

inline const float* row_for_reading(const Half* row, int64_t size, float* block) {
  read_row(row, size, block);
  return block;
}

template <typename T>
inline T* row_for_writing(T* row, T* block, bool stream) {
  return stream ? block : row;
}

inline float* row_for_writing(Half*, float* block, bool) { return block; }

template <typename T>
inline void finish_row(const T* spikes, int64_t size, T* row, bool stream) {
  if (stream) stream_row(spikes, size, row);
}

inline void finish_row(const float* spikes, int64_t size, Half* row, bool stream) {
  if (!stream) {
    write_row(spikes, size, row);
    return;
  }
  alignas(64) Half halves[kBlock];
  write_row(spikes, size, halves);
  stream_row(halves, size, row);
}

}  // namespace
}  // namespace onnx_snn
