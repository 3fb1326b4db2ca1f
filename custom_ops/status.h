// Errors inside the library are exceptions; onnxruntime sees an OrtStatus. `guarded` is the border.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "ort_abi.h"

namespace onnx_snn {

// A mistake in the model or in its inputs; the message names the op and the shapes.
struct InvalidArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An error onnxruntime gave us, to be handed back as it is.
struct OrtError {
  ort_abi::Status* status;
};

inline void check(ort_abi::Status* status) {
  if (status != nullptr) throw OrtError{status};
}

// Runs `body`; no exception gets past it.
template <typename Body>
ort_abi::Status* guarded(const ort_abi::Api* api, Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const OrtError& error) {
    return error.status;
  } catch (const InvalidArgument& error) {
    return api->call<ort_abi::CreateStatus>(ort_abi::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return api->call<ort_abi::CreateStatus>(ort_abi::kFail, error.what());
  } catch (...) {
    return api->call<ort_abi::CreateStatus>(ort_abi::kFail, "onnx_snn: unknown error");
  }
}

}  // namespace onnx_snn
