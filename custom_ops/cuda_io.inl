// Moving rows between memory and registers, and launching kernels. Included by the CUDA kernels.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernel_types.h"

namespace onnx_snn {
namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 4;  // steps whose currents are loaded together, to keep memory busy

// The words that move 2, 4, 8 and 16 bytes in one instruction.
template <size_t Bytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

template <typename T, int Width>
union Pack {
  typename Word<sizeof(T) * Width>::type word;
  T values[Width];
};

// Currents pass by once, so they are marked as the first to leave the cache; spikes stay for the
// layer that reads them next.
template <typename T, int Width>
__device__ Pack<T, Width> load(const T* from) {
  Pack<T, Width> pack;
  pack.word = __ldcs(reinterpret_cast<const decltype(pack.word)*>(from));
  return pack;
}

template <typename T, int Width>
__device__ void store(T* to, const Pack<T, Width>& pack) {
  *reinterpret_cast<decltype(Pack<T, Width>::word)*>(to) = pack.word;
}

template <typename T>
__device__ T widen(T value) {
  return value;
}
__device__ float widen(Half value) { return __half2float(__ushort_as_half(value.bits)); }

__device__ void narrow(float value, float* to) { *to = value; }
__device__ void narrow(double value, double* to) { *to = value; }
__device__ void narrow(float value, Half* to) {
  to->bits = __half_as_ushort(__float2half_rn(value));
}

// Queues so many threads of a kernel, in blocks of kThreads.
template <typename... Parameters>
void queue(void (*kernel)(Parameters...), int64_t threads, cudaStream_t stream,
           const std::decay_t<Parameters>&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned int>((threads + kThreads - 1) / kThreads));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA kernel launch failed: ") + cudaGetErrorString(error));
}

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace
}  // namespace onnx_snn
