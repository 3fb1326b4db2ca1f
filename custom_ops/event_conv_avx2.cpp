#define ONNX_SNN_KERNELS kEventConvAvx2
#include "event_conv_kernel.inl"
