// CUDA's runtime on a machine without a GPU: one device, whose memory is the host's, and streams on
// which all is done at once. Kernels of onnxruntime are not run; build.py makes their launches, and
// whatever else is not here, functions that do nothing and succeed.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kMemory = size_t{16} << 30, kAlignment = 512;

cudaError_t allocate(void** memory, size_t size) {
  const size_t whole = (size + kAlignment) / kAlignment * kAlignment;
  *memory = std::aligned_alloc(kAlignment, whole);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0, whole);
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t copy(void* to, const void* from, size_t size) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}

cudaError_t fill(void* memory, int value, size_t size) {
  std::memset(memory, value, size);
  return cudaSuccess;
}

// A stream, an event, a graph: something that is not null.
template <typename Handle>
cudaError_t make(Handle* handle) {
  static char thing;
  *handle = reinterpret_cast<Handle>(&thing);
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* device, int) {
  *device = {};
  std::strcpy(device->name, "stand-in");
  device->major = 9;
  device->warpSize = 32;
  device->multiProcessorCount = 132;
  device->totalGlobalMem = kMemory;
  device->maxThreadsPerBlock = device->maxThreadsDim[0] = device->maxThreadsDim[1] = 1024;
  device->maxThreadsDim[2] = 64;
  device->maxGridSize[0] = 0x7fffffff;
  device->maxGridSize[1] = device->maxGridSize[2] = 0xffff;
  device->maxThreadsPerMultiProcessor = 2048;
  device->regsPerBlock = 0x10000;
  device->sharedMemPerBlock = 48 << 10;
  device->sharedMemPerBlockOptin = device->sharedMemPerMultiprocessor = 227 << 10;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 132;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
    default:
      *value = 0;
  }
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned int) {
  return *blocks = 1, cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = kMemory;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  attributes->type = cudaMemoryTypeDevice;
  attributes->devicePointer = const_cast<void*>(memory);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t size) { return allocate(memory, size); }
cudaError_t cudaMallocHost(void** memory, size_t size) { return allocate(memory, size); }
cudaError_t cudaHostAlloc(void** memory, size_t size, unsigned int) {
  return allocate(memory, size);
}
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t size, cudaMemPool_t, cudaStream_t) {
  return allocate(memory, size);
}
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaFreeHost(void* memory) { return release(memory); }
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return release(memory); }

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  return copy(to, from, size);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  return copy(to, from, size);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t) {
  for (size_t row = 0; row < height; ++row) {
    copy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch,
         width);
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void*, size_t size, size_t, cudaMemcpyKind) {
  return fill(to, 0, size);
}
cudaError_t cudaMemset(void* memory, int value, size_t size) { return fill(memory, value, size); }
cudaError_t cudaMemsetAsync(void* memory, int value, size_t size, cudaStream_t) {
  return fill(memory, value, size);
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) { return make(pool); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return make(stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) { return make(stream); }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return make(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) { return make(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  return *milliseconds = 0, cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) { return make(graph); }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* graph, cudaGraph_t, unsigned long long) {
  return make(graph);
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void*, cudaJitOption*, void**,
                                unsigned int, cudaLibraryOption*, void**, unsigned int) {
  return make(library);
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t, const char*) {
  return make(kernel);
}

const char* cudaGetErrorName(cudaError_t) { return "an error of the stand-in"; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the stand-in"; }

void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void*) { return make(kernel); }

}  // extern "C"
