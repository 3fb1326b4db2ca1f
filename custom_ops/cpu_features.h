// What this machine's processor has.
#pragma once

#include <cstddef>

namespace onnx_snn {

bool cpu_has_avx2();    // AVX2 arithmetic, FMA and F16C conversions
bool cpu_has_avx512();  // F, VL, BW and DQ, and all of cpu_has_avx2
bool cpu_has_amx();     // tiles of int8, which the operating system lets us use, and AVX-512

// Each has what those before it have.
enum class InstructionSet { kPlain, kAvx2, kAvx512, kAmx };

// The widest that this machine has and that there are kernels for, or the one that the environment
// variable ONNX_SNN_ISA (plain, avx2, avx512, amx) asks for. Throws InvalidArgument if it asks for
// what is unknown or what this machine lacks.
InstructionSet required_instruction_set();

// Bytes of the last-level cache, or a usual size where the processor does not tell.
size_t last_level_cache_size();

}  // namespace onnx_snn
