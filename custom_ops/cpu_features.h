// What this machine's processor has.
#pragma once

#include <cstddef>

namespace onnx_snn {

bool cpu_has_avx2();    // with FMA-free AVX2 arithmetic and F16C conversions
bool cpu_has_avx512();  // F, VL, BW and DQ, and all of cpu_has_avx2

// Bytes of the last-level cache, or a usual size where the processor does not tell.
size_t last_level_cache_size();

}  // namespace onnx_snn
