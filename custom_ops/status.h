// Errors inside the library are exceptions; onnxruntime sees an OrtStatus. `guarded` is the border.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "ort_abi.h"

namespace onnx_snn {

// A mistake in the model or in its inputs; the message names the shapes.
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

// Runs `body`; no exception gets past it. Messages begin with `who`, the operator.
template <typename Body>
ort_abi::Status* guarded(const ort_abi::Api* api, const char* who, Body&& body) noexcept {
  const auto status = [&](ort_abi::ErrorCode code, const char* what) {
    try {
      return api->call<ort_abi::CreateStatus>(code, (std::string(who) + ": " + what).c_str());
    } catch (...) {
      return api->call<ort_abi::CreateStatus>(code, who);  // no memory for more
    }
  };
  try {
    body();
    return nullptr;
  } catch (const OrtError& error) {
    return error.status;
  } catch (const InvalidArgument& error) {
    return status(ort_abi::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return status(ort_abi::kFail, error.what());
  } catch (...) {
    return status(ort_abi::kFail, "unknown error");
  }
}

}  // namespace onnx_snn
