// The conversions of half precision, as cuda_fp16.h has them.
#pragma once

#include <cstring>

inline _Float16 __ushort_as_half(unsigned short bits) {
  _Float16 half;
  std::memcpy(&half, &bits, sizeof half);
  return half;
}

inline unsigned short __half_as_ushort(_Float16 half) {
  unsigned short bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

inline float __half2float(_Float16 half) { return static_cast<float>(half); }
inline _Float16 __float2half_rn(float value) { return static_cast<_Float16>(value); }
