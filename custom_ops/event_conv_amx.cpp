#ifdef ONNX_SNN_AMX_KERNELS
#define ONNX_SNN_KERNELS kEventConvAmx
#include "event_conv_kernel.inl"
#endif
