// Sharing out tiles, parts of a call that are computed by themselves, among the threads there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "neuron_cpu.h"

namespace onnx_snn {

// Calls body(tile, memory) for every tile, so many in a row by one thread that they are worth its
// while. `work`: values that a tile computes. `memory`: of `bytes`, not set.
template <typename Body>
void for_each_tile(int64_t tiles, int64_t work, int64_t bytes, const Parallel& parallel,
                   const Body& body) {
  constexpr int64_t kWork = 1 << 16;
  struct Work {
    const Body& body;
    int64_t tiles, grain;
    size_t bytes;
    std::atomic<bool> lacks_memory;

    void operator()(size_t index) {
      // Not by a throw: onnxruntime's threads catch nothing.
      const std::unique_ptr<char[]> memory(new (std::nothrow) char[bytes]);
      if (memory == nullptr) {
        lacks_memory = true;
        return;
      }
      const int64_t begin = static_cast<int64_t>(index) * grain;
      for (int64_t tile = begin; tile < std::min(begin + grain, tiles); ++tile) {
        body(tile, memory.get());
      }
    }
  };
  Work all{body, tiles, kWork / work + 1, static_cast<size_t>(bytes), {false}};
  const size_t count = static_cast<size_t>((tiles + all.grain - 1) / all.grain);
  if (count == 1) {
    all(0);
  } else {
    parallel.run([](void* context, size_t index) { (*static_cast<Work*>(context))(index); }, count,
                 &all);
  }
  if (all.lacks_memory) throw std::bad_alloc();
}

}  // namespace onnx_snn
