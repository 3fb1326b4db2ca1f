#define ONNX_SNN_KERNELS kEventPoolAvx2
#include "event_pool_kernel.inl"
