#include "cpu_features.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "status.h"

#if defined(__x86_64__) || defined(_M_X64)
#define ONNX_SNN_X86 1
#ifdef _MSC_VER
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace onnx_snn {

#ifdef ONNX_SNN_X86
namespace {

struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
#ifdef _MSC_VER
  int r[4];
  __cpuidex(r, static_cast<int>(leaf), static_cast<int>(subleaf));
  return {static_cast<uint32_t>(r[0]), static_cast<uint32_t>(r[1]), static_cast<uint32_t>(r[2]),
          static_cast<uint32_t>(r[3])};
#else
  Registers r = {0, 0, 0, 0};
  __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
  return r;
#endif
}

bool bit(uint32_t word, int position) { return (word >> position & 1u) != 0; }

// The register sets that the operating system saves on a context switch.
uint64_t saved_registers() {
  if (!bit(cpuid(1, 0).c, 27)) return 0;  // no OSXSAVE
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

bool saves(uint64_t mask) { return (saved_registers() & mask) == mask; }

// The largest cache listed by a deterministic cache leaf (Intel: 4, AMD: 0x8000001d).
size_t largest_cache(uint32_t leaf) {
  size_t largest = 0;
  for (uint32_t i = 0; i < 16; ++i) {
    const Registers r = cpuid(leaf, i);
    if ((r.a & 31u) == 0) break;
    const size_t ways = (r.b >> 22) + 1, partitions = (r.b >> 12 & 1023u) + 1;
    const size_t line = (r.b & 4095u) + 1, sets = static_cast<size_t>(r.c) + 1;
    const size_t bytes = ways * partitions * line * sets;
    if (bytes > largest) largest = bytes;
  }
  return largest;
}

}  // namespace
#endif

bool cpu_has_avx2() {
#ifdef ONNX_SNN_X86
  if (cpuid(0, 0).a < 7) return false;
  const uint32_t c = cpuid(1, 0).c;
  const bool f16c = bit(c, 29), fma = bit(c, 12);
  return f16c && fma && bit(cpuid(7, 0).b, 5) && saves(0x6);
#else
  return false;
#endif
}

bool cpu_has_avx512() {
#ifdef ONNX_SNN_X86
  if (!cpu_has_avx2()) return false;
  const uint32_t b = cpuid(7, 0).b;
  return bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31) && saves(0xe6);
#else
  return false;
#endif
}

bool cpu_has_amx() {
#if defined(ONNX_SNN_X86) && defined(__linux__)
  if (!cpu_has_avx512()) return false;
  const uint32_t d = cpuid(7, 0).d;
  if (!bit(d, 24) || !bit(d, 25) || !saves(0x60000)) return false;
  // Linux wants to be asked, once in a process, for the memory that it saves tiles in.
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool is_granted = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return is_granted;
#else
  return false;
#endif
}

InstructionSet required_instruction_set() {
  const char* asked = std::getenv("ONNX_SNN_ISA");
  const bool any = asked == nullptr || *asked == '\0';
  const auto wants = [&](const char* name) { return any || std::strcmp(asked, name) == 0; };
#ifdef ONNX_SNN_AMX_KERNELS
  if (wants("amx") && cpu_has_amx()) return InstructionSet::kAmx;
#endif
#ifdef ONNX_SNN_X86_KERNELS
  if (wants("avx512") && cpu_has_avx512()) return InstructionSet::kAvx512;
  if (wants("avx2") && cpu_has_avx2()) return InstructionSet::kAvx2;
#endif
  if (wants("plain")) return InstructionSet::kPlain;
  throw InvalidArgument(
      "ONNX_SNN_ISA asks for an instruction set that is unknown or that this machine lacks");
}

size_t last_level_cache_size() {
  size_t bytes = 0;
#ifdef ONNX_SNN_X86
  const uint32_t extended = cpuid(0x80000000u, 0).a;
  const bool amd = extended >= 0x8000001du && bit(cpuid(0x80000001u, 0).c, 22);
  if (amd) bytes = largest_cache(0x8000001du);
  if (bytes == 0 && cpuid(0, 0).a >= 4) bytes = largest_cache(4);
#endif
  constexpr size_t kUsual = size_t{32} << 20;
  return bytes != 0 ? bytes : kUsual;
}

}  // namespace onnx_snn
