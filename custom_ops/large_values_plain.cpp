#define ONNX_SNN_SCAN scan_plain
#include "large_values_scan.inl"
