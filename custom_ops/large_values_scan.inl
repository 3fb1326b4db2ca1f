// The scan of LargeValues, compiled once per instruction set: the file that includes this one
// defines ONNX_SNN_SCAN, and its compiler flags do the rest. Nothing here calls an inline function
// of the standard library; see if_neuron_kernel.inl.
#include "large_values.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define ONNX_SNN_SSE2 1
#endif

namespace onnx_snn {
namespace {

#if defined(__AVX512F__)
struct Floors {
  __m512 floor;
  explicit Floors(const float* f) : floor(_mm512_loadu_ps(f)) {}
  uint32_t above(const float* x) const {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(x), floor, _CMP_NLE_UQ);
  }
};
#elif defined(__AVX2__)
struct Floors {
  __m256 low, high;
  explicit Floors(const float* f) : low(_mm256_loadu_ps(f)), high(_mm256_loadu_ps(f + 8)) {}
  uint32_t above(const float* x) const {
    const __m256 a = _mm256_cmp_ps(_mm256_loadu_ps(x), low, _CMP_NLE_UQ);
    const __m256 b = _mm256_cmp_ps(_mm256_loadu_ps(x + 8), high, _CMP_NLE_UQ);
    return static_cast<uint32_t>(_mm256_movemask_ps(a)) |
           static_cast<uint32_t>(_mm256_movemask_ps(b)) << 8;
  }
};
#elif defined(ONNX_SNN_SSE2)
struct Floors {
  __m128 floor[4];
  explicit Floors(const float* f) {
    for (int i = 0; i < 4; ++i) floor[i] = _mm_loadu_ps(f + 4 * i);
  }
  __m128i part(const float* x, int i) const {
    return _mm_castps_si128(_mm_cmpnle_ps(_mm_loadu_ps(x + 4 * i), floor[i]));
  }
  uint32_t above(const float* x) const {
    const __m128i low = _mm_packs_epi32(part(x, 0), part(x, 1));
    const __m128i high = _mm_packs_epi32(part(x, 2), part(x, 3));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
  }
};
#else
struct Floors {
  const float* floor;
  explicit Floors(const float* f) : floor(f) {}
  uint32_t above(const float* x) const {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(!(x[i] <= floor[i])) << i;
    return mask;
  }
};
#endif

}  // namespace

int64_t ONNX_SNN_SCAN(const float* x, int64_t i, int64_t size, const Lanes& lanes,
                      uint32_t* above) {
  const Floors floors(lanes.floor);
  uint32_t mask = 0;
  for (; i + kLanes <= size; i += kLanes) {
    mask = floors.above(x + i) & lanes.used;
    if (mask != 0) break;
  }
  if (mask == 0) {
    for (int lane = 0; i + lane < size; ++lane) {
      mask |= static_cast<uint32_t>(!(x[i + lane] <= lanes.floor[lane])) << lane;
    }
    mask &= lanes.used;
  }
  *above = mask;
  return i;
}

}  // namespace onnx_snn
