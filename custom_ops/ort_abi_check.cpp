// Compile-only: proves ort_abi.h against onnxruntime's own header wherever that is installed.
#include "ort_abi.h"

#if defined(__has_include)
#if __has_include(<onnxruntime_c_api.h>)
#include <onnxruntime_c_api.h>
#define ONNX_SNN_OFFICIAL_HEADER 1
#elif __has_include(<onnxruntime/onnxruntime_c_api.h>)
#include <onnxruntime/onnxruntime_c_api.h>
#define ONNX_SNN_OFFICIAL_HEADER 1
#elif __has_include(<onnxruntime/core/session/onnxruntime_c_api.h>)
#include <onnxruntime/core/session/onnxruntime_c_api.h>
#define ONNX_SNN_OFFICIAL_HEADER 1
#endif
#endif

#ifdef ONNX_SNN_OFFICIAL_HEADER
#include <type_traits>

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wignored-attributes"  // theirs say warn_unused_result
#endif

namespace {

// Same number and size of arguments and result: enough for calls to agree, handle types aside.
template <typename Ours, typename Theirs>
struct SameCall : std::false_type {};

template <typename A, typename B>
constexpr bool kSameKind =
    sizeof(A) == sizeof(B) && std::is_pointer<A>::value == std::is_pointer<B>::value;
template <>
constexpr bool kSameKind<void, void> = true;

template <typename R1, typename... A1, typename R2, typename... A2>
struct SameCall<R1(ORT_ABI_CALL*)(A1...), R2(ORT_API_CALL*)(A2...)> {
  static constexpr bool same_arguments() {
    if constexpr (sizeof...(A1) == sizeof...(A2)) return (kSameKind<A1, A2> && ...);
    return false;
  }
  static constexpr bool value = kSameKind<R1, R2> && same_arguments();
};

// onnxruntime marks its functions noexcept, which is part of their type.
template <typename R1, typename... A1, typename R2, typename... A2>
struct SameCall<R1(ORT_ABI_CALL*)(A1...), R2(ORT_API_CALL*)(A2...) noexcept>
    : SameCall<R1(ORT_ABI_CALL*)(A1...), R2(ORT_API_CALL*)(A2...)> {};

#define CHECK_FUNCTION(ours, theirs)                                                        \
  static_assert(offsetof(OrtApi, theirs) == ort_abi::ours::index * sizeof(void*), #theirs); \
  static_assert(SameCall<ort_abi::ours::Pointer, decltype(OrtApi::theirs)>::value, #theirs)

CHECK_FUNCTION(CreateStatus, CreateStatus);
CHECK_FUNCTION(CreateCustomOpDomain, CreateCustomOpDomain);
CHECK_FUNCTION(CustomOpDomainAdd, CustomOpDomain_Add);
CHECK_FUNCTION(AddCustomOpDomain, AddCustomOpDomain);
CHECK_FUNCTION(GetTensorMutableData, GetTensorMutableData);
CHECK_FUNCTION(GetDimensionsCount, GetDimensionsCount);
CHECK_FUNCTION(GetDimensions, GetDimensions);
CHECK_FUNCTION(GetTensorTypeAndShape, GetTensorTypeAndShape);
CHECK_FUNCTION(GetAttributeFloat, KernelInfoGetAttribute_float);
CHECK_FUNCTION(GetAttributeInt64, KernelInfoGetAttribute_int64);
CHECK_FUNCTION(GetAttributeString, KernelInfoGetAttribute_string);
CHECK_FUNCTION(GetInputCount, KernelContext_GetInputCount);
CHECK_FUNCTION(GetOutputCount, KernelContext_GetOutputCount);
CHECK_FUNCTION(GetInput, KernelContext_GetInput);
CHECK_FUNCTION(GetOutput, KernelContext_GetOutput);
CHECK_FUNCTION(ReleaseStatus, ReleaseStatus);
CHECK_FUNCTION(ReleaseTensorInfo, ReleaseTensorTypeAndShapeInfo);
CHECK_FUNCTION(AddSessionConfigEntry, AddSessionConfigEntry);
CHECK_FUNCTION(GetAttributeFloats, KernelInfoGetAttributeArray_float);
CHECK_FUNCTION(GetAttributeInt64s, KernelInfoGetAttributeArray_int64);
CHECK_FUNCTION(GetGpuComputeStream, KernelContext_GetGPUComputeStream);
CHECK_FUNCTION(HasSessionConfigEntry, HasSessionConfigEntry);
CHECK_FUNCTION(GetConstantInput, KernelInfoGetConstantInput_tensor);
CHECK_FUNCTION(ParallelFor, KernelContext_ParallelFor);

#define CHECK_FIELD(ours, theirs) \
  static_assert(offsetof(OrtCustomOp, theirs) == offsetof(ort_abi::CustomOp, ours), #theirs)
#define CHECK_CALLBACK(ours, theirs)                                                               \
  CHECK_FIELD(ours, theirs);                                                                       \
  static_assert(SameCall<decltype(ort_abi::CustomOp::ours), decltype(OrtCustomOp::theirs)>::value, \
                #theirs)

CHECK_FIELD(version, version);
CHECK_CALLBACK(create_kernel, CreateKernel);
CHECK_CALLBACK(get_name, GetName);
CHECK_CALLBACK(get_execution_provider, GetExecutionProviderType);
CHECK_CALLBACK(get_input_type, GetInputType);
CHECK_CALLBACK(get_input_count, GetInputTypeCount);
CHECK_CALLBACK(get_output_type, GetOutputType);
CHECK_CALLBACK(get_output_count, GetOutputTypeCount);
CHECK_CALLBACK(compute, KernelCompute);
CHECK_CALLBACK(destroy_kernel, KernelDestroy);
CHECK_CALLBACK(get_input_characteristic, GetInputCharacteristic);
CHECK_CALLBACK(get_output_characteristic, GetOutputCharacteristic);
CHECK_CALLBACK(get_input_memory_type, GetInputMemoryType);
CHECK_CALLBACK(get_variadic_input_min_arity, GetVariadicInputMinArity);
CHECK_CALLBACK(get_variadic_input_homogeneity, GetVariadicInputHomogeneity);
CHECK_CALLBACK(get_variadic_output_min_arity, GetVariadicOutputMinArity);
CHECK_CALLBACK(get_variadic_output_homogeneity, GetVariadicOutputHomogeneity);
CHECK_CALLBACK(create_kernel_v2, CreateKernelV2);
CHECK_CALLBACK(compute_v2, KernelComputeV2);
CHECK_CALLBACK(infer_output_shape, InferOutputShapeFn);
CHECK_CALLBACK(get_start_version, GetStartVersion);
CHECK_CALLBACK(get_end_version, GetEndVersion);
static_assert(offsetof(OrtApiBase, GetApi) == offsetof(ort_abi::ApiBase, get_api), "GetApi");
static_assert(offsetof(OrtApiBase, GetVersionString) ==
                  offsetof(ort_abi::ApiBase, get_version_string),
              "GetVersionString");

#define CHECK_VALUE(ours, theirs) \
  static_assert(static_cast<int>(ort_abi::ours) == static_cast<int>(theirs), #theirs)

CHECK_VALUE(kFail, ORT_FAIL);
CHECK_VALUE(kInvalidArgument, ORT_INVALID_ARGUMENT);
CHECK_VALUE(kUndefined, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
CHECK_VALUE(kFloat, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
CHECK_VALUE(kInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
CHECK_VALUE(kInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
CHECK_VALUE(kFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
CHECK_VALUE(kDouble, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE);
CHECK_VALUE(kRequired, INPUT_OUTPUT_REQUIRED);
CHECK_VALUE(kOptional, INPUT_OUTPUT_OPTIONAL);
CHECK_VALUE(kCpuInput, OrtMemTypeCPUInput);
CHECK_VALUE(kDefaultMemory, OrtMemTypeDefault);

}  // namespace
#endif
