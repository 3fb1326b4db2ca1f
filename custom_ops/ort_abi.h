// The part of onnxruntime's C ABI that this library uses.
//
// onnxruntime's headers are not packaged for every platform we build on, so the few declarations we
// need are written out here. They are safe to write out because the ABI only ever grows: a function
// keeps its position in the OrtApi table, and a field its offset in OrtCustomOp, for good.
// ort_abi_check.cpp proves every number below against the official header where one is installed.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define ORT_ABI_CALL __stdcall
#else
#define ORT_ABI_CALL
#endif

namespace ort_abi {

// Opaque handles: only ever passed back to onnxruntime.
struct Status;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct CustomOpDomain;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int {
  kUndefined = 0,
  kFloat = 1,
  kInt8 = 3,
  kInt64 = 7,
  kFloat16 = 10,
  kDouble = 11
};
enum Characteristic : int { kRequired = 0, kOptional = 1 };
enum MemoryType : int { kCpuInput = -2, kDefaultMemory = 0 };

// The lowest API version that has everything declared here (onnxruntime 1.17).
constexpr uint32_t kApiVersion = 17;

// A function of the OrtApi table: its position, and its type.
template <size_t Index, typename Signature>
struct Function;

template <size_t Index, typename Result, typename... Args>
struct Function<Index, Result(Args...)> {
  static constexpr size_t index = Index;
  using Pointer = Result(ORT_ABI_CALL*)(Args...);
};

using CreateStatus = Function<0, Status*(ErrorCode, const char*)>;
using CreateCustomOpDomain = Function<26, Status*(const char*, CustomOpDomain**)>;
using CustomOpDomainAdd = Function<27, Status*(CustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain = Function<28, Status*(SessionOptions*, CustomOpDomain*)>;
using GetTensorMutableData = Function<51, Status*(Value*, void**)>;
using GetDimensionsCount = Function<61, Status*(const TensorInfo*, size_t*)>;
using GetDimensions = Function<62, Status*(const TensorInfo*, int64_t*, size_t)>;
using GetTensorTypeAndShape = Function<65, Status*(const Value*, TensorInfo**)>;
using GetAttributeFloat = Function<85, Status*(const KernelInfo*, const char*, float*)>;
using GetAttributeInt64 = Function<86, Status*(const KernelInfo*, const char*, int64_t*)>;
using GetAttributeString = Function<87, Status*(const KernelInfo*, const char*, char*, size_t*)>;
using GetInputCount = Function<88, Status*(const KernelContext*, size_t*)>;
using GetOutputCount = Function<89, Status*(const KernelContext*, size_t*)>;
using GetInput = Function<90, Status*(const KernelContext*, size_t, const Value**)>;
using GetOutput = Function<91, Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)>;
using ReleaseStatus = Function<93, void(Status*)>;
using ReleaseTensorInfo = Function<99, void(TensorInfo*)>;
using AddSessionConfigEntry = Function<130, Status*(SessionOptions*, const char*, const char*)>;
using GetAttributeFloats = Function<162, Status*(const KernelInfo*, const char*, float*, size_t*)>;
using GetAttributeInt64s =
    Function<163, Status*(const KernelInfo*, const char*, int64_t*, size_t*)>;
using GetGpuComputeStream = Function<193, Status*(const KernelContext*, void**)>;
using HasSessionConfigEntry = Function<237, Status*(const SessionOptions*, const char*, int*)>;
using GetConstantInput = Function<249, Status*(const KernelInfo*, size_t, int*, const Value**)>;
using ParallelFor =
    Function<274, Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>;

// The OrtApi table. Call a function as `api.call<ort_abi::GetInput>(context, 0, &value)`.
class Api {
 public:
  template <typename F, typename... Args>
  auto call(Args... args) const {
    const void* const* table = reinterpret_cast<const void* const*>(this);
    return reinterpret_cast<typename F::Pointer>(const_cast<void*>(table[F::index]))(args...);
  }

  Api() = delete;  // only ever a view of onnxruntime's own table
};

struct ApiBase {
  const Api*(ORT_ABI_CALL* get_api)(uint32_t version);
  const char*(ORT_ABI_CALL* get_version_string)();
};

// OrtCustomOp up to API version 17. onnxruntime reads no further than `version` says.
struct CustomOp {
  uint32_t version;
  void*(ORT_ABI_CALL* create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char*(ORT_ABI_CALL* get_name)(const CustomOp*);
  const char*(ORT_ABI_CALL* get_execution_provider)(const CustomOp*);
  ElementType(ORT_ABI_CALL* get_input_type)(const CustomOp*, size_t);
  size_t(ORT_ABI_CALL* get_input_count)(const CustomOp*);
  ElementType(ORT_ABI_CALL* get_output_type)(const CustomOp*, size_t);
  size_t(ORT_ABI_CALL* get_output_count)(const CustomOp*);
  void(ORT_ABI_CALL* compute)(void* kernel, KernelContext*);
  void(ORT_ABI_CALL* destroy_kernel)(void* kernel);
  Characteristic(ORT_ABI_CALL* get_input_characteristic)(const CustomOp*, size_t);
  Characteristic(ORT_ABI_CALL* get_output_characteristic)(const CustomOp*, size_t);
  MemoryType(ORT_ABI_CALL* get_input_memory_type)(const CustomOp*, size_t);
  int(ORT_ABI_CALL* get_variadic_input_min_arity)(const CustomOp*);
  int(ORT_ABI_CALL* get_variadic_input_homogeneity)(const CustomOp*);
  int(ORT_ABI_CALL* get_variadic_output_min_arity)(const CustomOp*);
  int(ORT_ABI_CALL* get_variadic_output_homogeneity)(const CustomOp*);
  Status*(ORT_ABI_CALL* create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status*(ORT_ABI_CALL* compute_v2)(void* kernel, KernelContext*);
  Status*(ORT_ABI_CALL* infer_output_shape)(const CustomOp*, void*);
  int(ORT_ABI_CALL* get_start_version)(const CustomOp*);
  int(ORT_ABI_CALL* get_end_version)(const CustomOp*);
};

}  // namespace ort_abi
