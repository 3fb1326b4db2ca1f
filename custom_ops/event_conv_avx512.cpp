#define ONNX_SNN_KERNELS kEventConvAvx512
#include "event_conv_kernel.inl"
