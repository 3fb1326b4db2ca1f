// Threads from the session's own pool.
#pragma once

#include "neuron_cpu.h"
#include "ort_abi.h"
#include "status.h"

namespace onnx_snn {

class SessionPool final : public Parallel {
 public:
  SessionPool(const ort_abi::Api& api, const ort_abi::KernelContext* context)
      : api_(api), context_(context) {}

  void run(ParallelBody body, size_t count, void* context) const override {
    const size_t batches = count;  // each index by itself: a busy core then delays no more than one
    check(api_.call<ort_abi::ParallelFor>(context_, body, count, batches, context));
  }

 private:
  const ort_abi::Api& api_;
  const ort_abi::KernelContext* context_;
};

}  // namespace onnx_snn
