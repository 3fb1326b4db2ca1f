#define ONNX_SNN_KERNELS kEventPoolPlain
#include "event_pool_kernel.inl"
