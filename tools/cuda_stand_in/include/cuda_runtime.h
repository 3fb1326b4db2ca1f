// CUDA C++ for a compiler of the CPU: a launch is a loop over blocks and threads. For kernels whose
// threads do not wait for each other.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>

struct StandInIndex {
  unsigned int x = 0;
};
inline thread_local StandInIndex blockIdx, threadIdx;

#undef __global__
#undef __device__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)

// A GPU refuses an address that is not a multiple of the value's size.
template <typename T>
T __ldcs(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(T) != 0) abort();
  return *from;
}

template <typename T>
void __stcs(T* to, const T& value) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(T) != 0) abort();
  *to = value;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  for (unsigned int block = 0; block < config->gridDim.x; ++block) {
    for (unsigned int thread = 0; thread < config->blockDim.x; ++thread) {
      blockIdx.x = block;
      threadIdx.x = thread;
      kernel(arguments...);
    }
  }
  return cudaSuccess;
}
