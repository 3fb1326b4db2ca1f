// A vector of floats, as wide as the instruction set has them, and the lists of events of a row.
// Included by event_conv_kernel.inl, with internal linkage: see if_neuron_kernel.inl.
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12's own header
#endif
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

namespace onnx_snn {
namespace {

// Asks for a cache line that is needed soon; any address will do.
inline void prefetch(const void* address) {
#if defined(__SSE2__) || defined(_M_X64)
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
#else
  static_cast<void>(address);
#endif
}

#if defined(__AVX512F__)

struct Vector {
  __m512 lanes;
  static constexpr int64_t size = 16;
};
inline Vector load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline Vector load(const int8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline Vector all(float value) { return {_mm512_set1_ps(value)}; }
inline void store(Vector a, float* to) { _mm512_storeu_ps(to, a.lanes); }
inline Vector add(Vector a, Vector b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
inline Vector multiply_add(Vector a, Vector b, Vector c) {
  return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)};
}
constexpr int64_t kMaxBlock = 64;     // four registers
constexpr int kPixels = 2;            // whose events are added side by side
constexpr int kPixelsNarrow = 4;      // the same, of the narrowest blocks
constexpr int64_t kDenseVectors = 4;  // of one pixel; six pixels take 24 registers
constexpr float kDenseFrom = 0.4f;

#elif defined(__AVX2__)

struct Vector {
  __m256 lanes;
  static constexpr int64_t size = 8;
};
inline Vector load(const float* from) { return {_mm256_loadu_ps(from)}; }
inline Vector load(const int8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))};
}
inline Vector all(float value) { return {_mm256_set1_ps(value)}; }
inline void store(Vector a, float* to) { _mm256_storeu_ps(to, a.lanes); }
inline Vector add(Vector a, Vector b) { return {_mm256_add_ps(a.lanes, b.lanes)}; }
inline Vector multiply_add(Vector a, Vector b, Vector c) {
  return {_mm256_fmadd_ps(a.lanes, b.lanes, c.lanes)};
}
constexpr int64_t kMaxBlock = 64;
constexpr int kPixels = 1;
constexpr int kPixelsNarrow = 4;
constexpr int64_t kDenseVectors = 2;
constexpr float kDenseFrom = 0.6f;

#else

#if defined(__SSE2__) || defined(_M_X64)
struct Vector {
  __m128 lanes;
  static constexpr int64_t size = 4;
};
inline Vector load(const float* from) { return {_mm_loadu_ps(from)}; }
inline Vector load(const int8_t* from) { return {_mm_setr_ps(from[0], from[1], from[2], from[3])}; }
inline Vector all(float value) { return {_mm_set1_ps(value)}; }
inline void store(Vector a, float* to) { _mm_storeu_ps(to, a.lanes); }
inline Vector add(Vector a, Vector b) { return {_mm_add_ps(a.lanes, b.lanes)}; }
inline Vector multiply_add(Vector a, Vector b, Vector c) {
  return {_mm_add_ps(_mm_mul_ps(a.lanes, b.lanes), c.lanes)};
}
#else
// The compiler finds vectors in these loops where there are some.
struct Vector {
  float lanes[4];
  static constexpr int64_t size = 4;
};
template <typename T>
inline Vector load(const T* from) {
  Vector a;
  for (int i = 0; i < 4; ++i) a.lanes[i] = static_cast<float>(from[i]);
  return a;
}
inline Vector all(float value) { return {{value, value, value, value}}; }
inline void store(Vector a, float* to) {
  for (int i = 0; i < 4; ++i) to[i] = a.lanes[i];
}
inline Vector add(Vector a, Vector b) {
  for (int i = 0; i < 4; ++i) a.lanes[i] += b.lanes[i];
  return a;
}
inline Vector multiply_add(Vector a, Vector b, Vector c) {
  for (int i = 0; i < 4; ++i) c.lanes[i] += a.lanes[i] * b.lanes[i];
  return c;
}
#endif
constexpr int64_t kMaxBlock = 32;
constexpr int kPixels = 1;
constexpr int kPixelsNarrow = 2;
constexpr int64_t kDenseVectors = 2;
constexpr float kDenseFrom = 1.0f;

#endif

// Copies 16 integers, and adds `shift` to each.
inline void copy_shifted(const int32_t* from, int32_t shift, int32_t* to) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(from), _mm512_set1_epi32(shift)));
#elif defined(__AVX2__)
  for (int i = 0; i < 16; i += 8) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_add_epi32(some, _mm256_set1_epi32(shift)));
  }
#else
  // Of these, some are not entries, and their sum may be anything.
  for (int i = 0; i < 16; ++i) {
    to[i] = static_cast<int32_t>(static_cast<uint32_t>(from[i]) + static_cast<uint32_t>(shift));
  }
#endif
}

// Appends base + i for every i < size with x[i] != 0, and may write 16 entries further than that.
// `others` becomes true where one of them is not 1.
inline int32_t* list_events(const int8_t* x, int64_t size, int64_t base, int32_t* to,
                            bool* others) {
#if defined(__AVX512F__)
  constexpr uintptr_t kAhead = 2048;
  const __m512i first =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(base)),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  for (int64_t i = 0; i < size; i += 64) {
    const int64_t left = size - i;
    const __mmask64 present = left < 64 ? (uint64_t{1} << left) - 1 : ~uint64_t{0};
    prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(x) + i + kAhead));
    const __m512i bytes = _mm512_maskz_loadu_epi8(present, x + i);
    uint64_t active = _mm512_test_epi8_mask(bytes, bytes);
    *others |= active != _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(1));
    // No branch depends on the events, or many would be guessed wrong.
    for (int64_t at = i; at < size && at < i + 64; active >>= 16, at += 16) {
      const __mmask16 some = static_cast<__mmask16>(active);
      const __m512i indices = _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int32_t>(at)));
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(some, indices));
      to += static_cast<int>(_mm_popcnt_u32(some));
    }
  }
  return to;
#else
  int64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t bytes;
    memcpy(&bytes, x + i, sizeof bytes);
    if (bytes == 0) continue;
    for (int64_t k = i; k < i + 8; ++k) {
      *to = static_cast<int32_t>(base + k);
      to += x[k] != 0;
      *others |= (x[k] & ~1) != 0;
    }
  }
  for (; i < size; ++i) {
    *to = static_cast<int32_t>(base + i);
    to += x[i] != 0;
    *others |= (x[i] & ~1) != 0;
  }
  return to;
#endif
}

}  // namespace
}  // namespace onnx_snn
