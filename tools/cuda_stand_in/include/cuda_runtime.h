// CUDA C++ for a compiler of the CPU: a launch is a loop over blocks and threads. For kernels whose
// threads do not wait for each other.
#pragma once

#include <cuda_runtime_api.h>

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

template <typename T>
T __ldcs(const T* from) {
  return *from;
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
