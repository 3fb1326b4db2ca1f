#include "neuron_cpu.h"

#include "cpu_features.h"

namespace onnx_snn {
namespace {

// Neurons per task: enough steps to be worth a thread's while, few enough for every thread to get
// some, and whole cache lines of any type, so that no two threads write one line.
int64_t grain_of(int64_t steps, int64_t neurons) {
  constexpr int64_t kLine = 64, kWork = 1 << 15, kMost = 1 << 13, kTasks = 32;
  const int64_t enough = kWork / steps + 1;
  const int64_t grain = std::max(enough, std::min(neurons / kTasks, kMost));
  return (grain + kLine - 1) / kLine * kLine;
}

}  // namespace

Shares share_out(int64_t steps, int64_t neurons, size_t value_size) {
  static const size_t cache = last_level_cache_size();
  const int64_t grain = grain_of(steps, neurons);
  const size_t bytes = static_cast<size_t>(steps) * static_cast<size_t>(neurons) * value_size;
  return {grain, static_cast<size_t>((neurons + grain - 1) / grain), bytes > cache};
}

}  // namespace onnx_snn
