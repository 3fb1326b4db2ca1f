// What the kernels of the neurons compute with, on the CPU and on CUDA.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ONNX_SNN_INLINE __device__ __forceinline__
#else
#define ONNX_SNN_INLINE inline
#endif

namespace onnx_snn {

// float16 is stored only; arithmetic on it is done in float32 from the first step to the last.
struct Half {
  uint16_t bits;
};

template <typename T>
struct StateOf {
  using type = T;
};
template <>
struct StateOf<Half> {
  using type = float;
};

}  // namespace onnx_snn
