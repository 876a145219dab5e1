# The extension kdl/kernels/_cuda: every csrc/ops/*.cu and the bindings, linked statically against the CUDA runtime so that it imports
# on a machine without a driver. Included once nvcc is found: from here on whatever fails is an error.
set(CMAKE_CUDA_COMPILER "${KDL_NVCC}")
if(CMAKE_CUDA_ARCHITECTURES)
  set(architectures ${CMAKE_CUDA_ARCHITECTURES})
else()
  kdl_default_architectures("${KDL_NVCC}" architectures gencode)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
endif()
if(KDL_NVCC_LIBRARIES)
  string(APPEND CMAKE_CUDA_FLAGS " -L${KDL_NVCC_LIBRARIES}")
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CUDA_FLAGS_RELEASE "-DNDEBUG -Xcompiler=-Os")  # the host's half only launches; the device's is optimised anyway
enable_language(CXX)
enable_language(CUDA)
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
kdl_find_pybind11()

kdl_compile_jobs(jobs)
set_property(GLOBAL APPEND PROPERTY JOB_POOLS kdl_nvcc=${jobs})
list(JOIN architectures " " architectures)
message(STATUS "kdl: CUDA kernels with nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${architectures}, ${jobs} compile jobs")

file(GLOB sources CONFIGURE_DEPENDS csrc/ops/*.cu)
pybind11_add_module(_cuda MODULE NO_EXTRAS csrc/bind.cpp csrc/kdl/backend.cu ${sources})
set_target_properties(_cuda PROPERTIES CXX_STANDARD 17 CUDA_STANDARD 17 CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden JOB_POOL_COMPILE kdl_nvcc)
target_include_directories(_cuda PRIVATE csrc)
target_compile_definitions(_cuda PRIVATE KDL_MODULE=_cuda KDL_ARRAY_PROTOCOL="__cuda_array_interface__" KDL_ARRAY_NAME="a GPU array"
  KDL_VERSION="${KDL_VERSION}" "KDL_ARCHITECTURES=\"${architectures}\"")
foreach(flag IN LISTS gencode)
  target_compile_options(_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flag}>")
endforeach()
target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=2>)  # two architectures at a time: the last family is not waited for alone
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>)
endif()
target_link_options(_cuda PRIVATE $<$<CONFIG:Release>:-s> -Wl,--gc-sections)

if(KDL_INPLACE)
  # In place the compiler says what every kernel takes, and the tests hold it to its budget.
  target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  set(launcher ${Python_EXECUTABLE} ${CMAKE_SOURCE_DIR}/csrc/cmake/keep_report.py ${CMAKE_CUDA_COMPILER_LAUNCHER})  # unquoted: no launcher, no word
  set_target_properties(_cuda PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
  set_target_properties(_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_SOURCE_DIR}/kdl/kernels")
else()
  install(TARGETS _cuda DESTINATION kdl/kernels)
endif()
