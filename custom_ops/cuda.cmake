# Adds the CUDA kernels to onnx_snn_ops as ONNX_SNN_CUDA says.
if(ONNX_SNN_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    if(NOT ONNX_SNN_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "ONNX_SNN_CUDA is ${ONNX_SNN_CUDA}, but no CUDA compiler was found")
    endif()
    message(STATUS "onnx_snn: no CUDA compiler, CPU kernels only")
    return()
  endif()
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    # Machine code from Turing to Hopper, and PTX for what comes after.
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90)
  endif()
  enable_language(CUDA)
  target_sources(onnx_snn_ops PRIVATE add_if_neuron_cuda.cu if_neuron_cuda.cu phase_neuron_cuda.cu
    spike_max_pool_cuda.cu)
  target_compile_definitions(onnx_snn_ops PRIVATE ONNX_SNN_CUDA)
  # The runtime is linked in, so that one library loads on machines with and without a GPU.
  set_target_properties(onnx_snn_ops PROPERTIES
    CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
    CUDA_RUNTIME_LIBRARY Static
    CUDA_STANDARD 17
    CUDA_VISIBILITY_PRESET hidden)
  target_compile_options(onnx_snn_ops PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
  if(ONNX_SNN_WERROR)
    target_compile_options(onnx_snn_ops PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Wall,-Wextra>)
  endif()
endif()
