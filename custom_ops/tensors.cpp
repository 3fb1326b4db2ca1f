#include "tensors.h"

namespace onnx_snn {
namespace {

using ort_abi::Api;
using ort_abi::KernelInfo;

// True where the call succeeded. A failed look-up is an answer here, not an error.
bool succeeds(const Api& api, ort_abi::Status* status) {
  if (status == nullptr) return true;
  api.call<ort_abi::ReleaseStatus>(status);
  return false;
}

bool find(const Api& api, const KernelInfo* info, const char* name, int64_t* value) {
  return succeeds(api, api.call<ort_abi::GetAttributeInt64>(info, name, value));
}

bool find(const Api& api, const KernelInfo* info, const char* name, float* value) {
  return succeeds(api, api.call<ort_abi::GetAttributeFloat>(info, name, value));
}

bool find(const Api& api, const KernelInfo* info, const char* name, std::vector<int64_t>* value) {
  int64_t* no_buffer = nullptr;
  size_t size = 0;
  if (!succeeds(api, api.call<ort_abi::GetAttributeInt64s>(info, name, no_buffer, &size))) {
    return false;
  }
  value->assign(size, 0);
  if (size > 0) check(api.call<ort_abi::GetAttributeInt64s>(info, name, value->data(), &size));
  return true;
}

bool find(const Api& api, const KernelInfo* info, const char* name, std::string* value) {
  char* no_buffer = nullptr;
  size_t size = 0;  // with the terminating zero
  if (!succeeds(api, api.call<ort_abi::GetAttributeString>(info, name, no_buffer, &size))) {
    return false;
  }
  value->assign(size, '\0');
  check(api.call<ort_abi::GetAttributeString>(info, name, &(*value)[0], &size));
  value->resize(size > 0 ? size - 1 : 0);
  return true;
}

template <typename T>
bool exists_as(const Api& api, const KernelInfo* info, const char* name) {
  T ignored{};
  return find(api, info, name, &ignored);
}

template <typename GetList, typename T>
bool exists_as_list(const Api& api, const KernelInfo* info, const char* name) {
  T* no_buffer = nullptr;
  size_t size = 0;
  return succeeds(api, api.call<GetList>(info, name, no_buffer, &size));
}

bool exists(const Api& api, const KernelInfo* info, const char* name) {
  return exists_as<int64_t>(api, info, name) || exists_as<float>(api, info, name) ||
         exists_as<std::string>(api, info, name) ||
         exists_as_list<ort_abi::GetAttributeInt64s, int64_t>(api, info, name) ||
         exists_as_list<ort_abi::GetAttributeFloats, float>(api, info, name);
}

template <typename T>
T attribute_or(const Api& api, const KernelInfo* info, const char* name, const T& absent,
               const char* type) {
  T value{};
  if (find(api, info, name, &value)) return value;
  if (exists(api, info, name)) {
    throw InvalidArgument("attribute " + std::string(name) + " must be " + type);
  }
  return absent;
}

Input input_of(const Api& api, const ort_abi::Value* value) {
  Input input;
  if (value == nullptr) return input;
  ort_abi::TensorInfo* info = nullptr;
  check(api.call<ort_abi::GetTensorTypeAndShape>(value, &info));
  struct Release {
    const Api& api;
    ort_abi::TensorInfo* info;
    ~Release() { api.call<ort_abi::ReleaseTensorInfo>(info); }
  } release{api, info};
  size_t rank = 0;
  check(api.call<ort_abi::GetDimensionsCount>(info, &rank));
  input.shape.resize(rank);
  check(api.call<ort_abi::GetDimensions>(info, input.shape.data(), rank));

  void* data = nullptr;  // the C API has one accessor, for inputs too
  check(api.call<ort_abi::GetTensorMutableData>(const_cast<ort_abi::Value*>(value), &data));
  input.data = data;
  input.present = true;
  return input;
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ",";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

int64_t element_count(const Shape& shape) {
  // More than any address space holds. onnxruntime would not get over being asked for it: the sum
  // of sizes it keeps would overflow in every later run of the session.
  constexpr int64_t kMost = int64_t{1} << 48;
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
  }
  for (const int64_t size : shape) {
    if (count > kMost / size) {
      throw InvalidArgument("shape " + to_string(shape) + " is too large");
    }
    count *= size;
  }
  return count;
}

Input get_input(const Api& api, const ort_abi::KernelContext* context, size_t index) {
  size_t inputs = 0;
  check(api.call<ort_abi::GetInputCount>(context, &inputs));
  if (index >= inputs) return Input();
  const ort_abi::Value* value = nullptr;
  check(api.call<ort_abi::GetInput>(context, index, &value));
  return input_of(api, value);
}

Input get_constant_input(const Api& api, const KernelInfo* info, size_t index) {
  int is_constant = 0;
  const ort_abi::Value* value = nullptr;
  const bool found =
      succeeds(api, api.call<ort_abi::GetConstantInput>(info, index, &is_constant, &value));
  return found && is_constant != 0 ? input_of(api, value) : Input();
}

void* get_output(const Api& api, ort_abi::KernelContext* context, size_t index,
                 const Shape& shape) {
  size_t outputs = 0;
  check(api.call<ort_abi::GetOutputCount>(context, &outputs));
  if (index >= outputs) return nullptr;
  ort_abi::Value* value = nullptr;
  check(api.call<ort_abi::GetOutput>(context, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  check(api.call<ort_abi::GetTensorMutableData>(value, &data));
  return data;
}

int64_t get_attribute(const Api& api, const KernelInfo* info, const char* name, int64_t absent) {
  return attribute_or(api, info, name, absent, "an integer");
}

float get_attribute(const Api& api, const KernelInfo* info, const char* name, float absent) {
  return attribute_or(api, info, name, absent, "a float");
}

std::string get_attribute(const Api& api, const KernelInfo* info, const char* name,
                          const std::string& absent) {
  return attribute_or(api, info, name, absent, "a string");
}

std::vector<int64_t> get_attribute(const Api& api, const KernelInfo* info, const char* name,
                                   const std::vector<int64_t>& absent) {
  return attribute_or(api, info, name, absent, "a list of integers");
}

}  // namespace onnx_snn
