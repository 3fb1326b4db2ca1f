// Memory that a kernel needs while it runs. Whoever is done with some leaves it for the next, as
// new memory would have to be mapped and cleared by the operating system again and again.
#pragma once

#include <cstddef>
#include <memory>

namespace onnx_snn {

class ScratchMemory {
 public:
  static constexpr size_t kAlignment = 64;

  explicit ScratchMemory(size_t bytes);
  ~ScratchMemory();
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;

  // What it holds is not set.
  void* data() const { return block_.bytes.get(); }

 private:
  struct Free {
    void operator()(unsigned char* bytes) const;
  };
  struct Block {
    std::unique_ptr<unsigned char[], Free> bytes;
    size_t size = 0;
  };
  struct Store;
  static Store& store();

  Block block_;
};

}  // namespace onnx_snn
