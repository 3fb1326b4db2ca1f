#define ONNX_SNN_KERNELS kEventPoolAvx512
#include "event_pool_kernel.inl"
