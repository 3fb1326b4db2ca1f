#define ONNX_SNN_KERNELS kEventConvPlain
#include "event_conv_kernel.inl"
