#define ONNX_SNN_SCAN scan_avx2
#include "large_values_scan.inl"
