#include "scratch_memory.h"

#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace onnx_snn {
namespace {

constexpr size_t kMostKept = size_t{16} << 20;  // bytes, of one block
constexpr size_t kMostBlocks = 64;              // more threads than this seldom run at once

}  // namespace

struct ScratchMemory::Store {
  std::mutex mutex;
  std::vector<Block> blocks;
};

ScratchMemory::Store& ScratchMemory::store() {
  static Store one;
  return one;
}

void ScratchMemory::Free::operator()(unsigned char* bytes) const {
  ::operator delete[](bytes, std::align_val_t{kAlignment});
}

ScratchMemory::ScratchMemory(size_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(store().mutex);
    if (!store().blocks.empty()) {
      block_ = std::move(store().blocks.back());
      store().blocks.pop_back();
    }
  }
  if (block_.size >= bytes) return;
  void* const fresh = ::operator new[](bytes, std::align_val_t{kAlignment});
  block_.bytes.reset(static_cast<unsigned char*>(fresh));
  block_.size = bytes;
}

ScratchMemory::~ScratchMemory() {
  if (block_.size == 0 || block_.size > kMostKept) return;
  const std::lock_guard<std::mutex> lock(store().mutex);
  if (store().blocks.size() < kMostBlocks) store().blocks.push_back(std::move(block_));
}

}  // namespace onnx_snn
