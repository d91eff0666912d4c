# Adds to _native what runs on NVIDIA GPUs. In: nvcc, DOSSR_CUDA_ARCHITECTURES, DOSSR_CUDA_SOURCES, DOSSR_CUDA_KERNELS.

enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
if(CUDAToolkit_VERSION VERSION_LESS 11.8)
  message(FATAL_ERROR "CUDA toolkit ${CUDAToolkit_VERSION} is too old for sm_89 and sm_90: install 11.8 or newer, or "
                      "configure with -DDOSSR_CUDA=OFF")
endif()

# Machine code for each GPU, and PTX, which the driver compiles for those that come after: of 90 for 100 to 110, which
# cannot run that of 120.
set(architectures "${DOSSR_CUDA_ARCHITECTURES}")
if(NOT architectures)
  set(architectures 80-real 86-real 89-real 90)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND architectures 120)
  endif()
endif()
set(names "")
foreach(architecture IN LISTS architectures)
  if(NOT architecture MATCHES "^([0-9]+[af]?)(-real|-virtual)?$")
    message(FATAL_ERROR "DOSSR_CUDA_ARCHITECTURES: expected numbers such as 90, 90-real or 90-virtual with ; between "
                        "them, got ${architecture}")
  endif()
  if(NOT CMAKE_MATCH_2 STREQUAL "-virtual")
    list(APPEND names sm_${CMAKE_MATCH_1})
  endif()
  if(NOT CMAKE_MATCH_2 STREQUAL "-real")
    list(APPEND names compute_${CMAKE_MATCH_1})
  endif()
endforeach()
string(JOIN " " names ${names})
message(STATUS "runtime._native: for the CPU and, by CUDA ${CUDAToolkit_VERSION}, for GPUs: ${names}")

# A library of its own, so that what g++ alone understands does not reach nvcc. Without fused multiply-adds but those
# that are written: the same bits as on the host.
string(JOIN "," exact ${DOSSR_EXACT})
add_library(dossr_cuda_kernels OBJECT ${DOSSR_CUDA_KERNELS})
set_target_properties(dossr_cuda_kernels PROPERTIES
  CUDA_ARCHITECTURES "${architectures}"
  CUDA_STANDARD 17
  CUDA_STANDARD_REQUIRED ON
  CUDA_VISIBILITY_PRESET hidden
  CUDA_RUNTIME_LIBRARY Static
  POSITION_INDEPENDENT_CODE ON)
target_compile_options(dossr_cuda_kernels PRIVATE --fmad=false --threads=2 -Xcompiler=-Wall,-Wextra,${exact})

target_sources(_native PRIVATE ${DOSSR_CUDA_SOURCES} $<TARGET_OBJECTS:dossr_cuda_kernels>)
target_compile_definitions(_native PRIVATE DOSSR_CUDA_ARCHITECTURES="${names}")
target_link_libraries(_native PRIVATE CUDA::cudart_static)
# Other libraries in the process bring CUDA runtimes of their own: ours is seen by nobody else.
target_link_options(_native PRIVATE LINKER:--exclude-libs,ALL)
set_target_properties(_native PROPERTIES LINKER_LANGUAGE CXX CUDA_RESOLVE_DEVICE_SYMBOLS OFF)
