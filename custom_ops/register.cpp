// The library's one entry point, which onnxruntime calls for each session that loads it.
#include <mutex>

#include "event_conv_op.h"
#include "event_pool_op.h"
#include "if_neuron_op.h"
#include "large_values.h"
#include "ort_abi.h"
#include "phase_neuron_op.h"
#include "spike_max_pool_op.h"
#include "status.h"

#ifdef _WIN32
#define ONNX_SNN_EXPORT __declspec(dllexport)
#else
#define ONNX_SNN_EXPORT __attribute__((visibility("default")))
#endif

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::CustomOpDomain;

// One domain for all sessions. It is never released: sessions may outlive any moment we could pick.
CustomOpDomain* domain(const Api& api) {
  static std::mutex mutex;
  static CustomOpDomain* made = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (made == nullptr) {
    CustomOpDomain* fresh = nullptr;
    check(api.call<ort_abi::CreateCustomOpDomain>("onnx_snn", &fresh));
    for (const auto& ops : {if_neuron_ops(), add_if_neuron_ops(), phase_neuron_ops(),
                            event_conv_ops(), event_pool_ops(), spike_max_pool_ops()}) {
      for (const auto* op : ops) check(api.call<ort_abi::CustomOpDomainAdd>(fresh, op));
    }
    for (const auto* op : {event_if_neuron_op(), large_values_op()}) {
      check(api.call<ort_abi::CustomOpDomainAdd>(fresh, op));
    }
    made = fresh;
  }
  return made;
}

// Once: onnxruntime makes no session from options that hold a domain twice. They keep a note of it.
void add_operators(const Api& api, ort_abi::SessionOptions* options) {
  constexpr const char* kNote = "custom_op.onnx_snn.registered";
  int is_registered = 0;
  check(api.call<ort_abi::HasSessionConfigEntry>(options, kNote, &is_registered));
  if (is_registered != 0) return;
  check(api.call<ort_abi::AddCustomOpDomain>(options, domain(api)));
  check(api.call<ort_abi::AddSessionConfigEntry>(options, kNote, "1"));
}

}  // namespace
}  // namespace onnx_snn

extern "C" ONNX_SNN_EXPORT ort_abi::Status* ORT_ABI_CALL
RegisterCustomOps(ort_abi::SessionOptions* options, const ort_abi::ApiBase* base) {
  const ort_abi::Api* api = base->get_api(ort_abi::kApiVersion);
  if (api == nullptr) {
    // Too old a runtime to make our error with our version of the table; the first one will do.
    api = base->get_api(1);
    if (api == nullptr) return nullptr;
    return api->call<ort_abi::CreateStatus>(ort_abi::kFail,
                                            "onnx_snn needs onnxruntime 1.17 or later");
  }
  return onnx_snn::guarded(api, "onnx_snn", [&] { onnx_snn::add_operators(*api, options); });
}
