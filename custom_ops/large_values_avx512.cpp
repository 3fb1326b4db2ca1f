#define ONNX_SNN_SCAN scan_avx512
#include "large_values_scan.inl"
