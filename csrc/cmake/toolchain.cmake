# Finding what a build needs: the CUDA compiler, its architectures, pybind11, a safe number of jobs. Nothing here enables a language.

# Sets `found` to the path of nvcc, or `reason` to why there is none. Looks at CUDACXX, then PATH, then the nvidia/cu13 package that
# pip installed for this build; in that order, except that KDL_PIP_NVCC=1 asks for the package by name.
function(kdl_find_nvcc found reason)
  find_package(Python REQUIRED COMPONENTS Interpreter)
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])"
    OUTPUT_VARIABLE pip_toolkit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(from_pip "")
  if(pip_toolkit AND EXISTS "${pip_toolkit}/bin/nvcc")
    set(from_pip "${pip_toolkit}/bin/nvcc")
  endif()

  if(from_pip AND "$ENV{KDL_PIP_NVCC}")
    set(nvcc "${from_pip}")
  elseif(DEFINED ENV{CUDACXX})
    find_program(nvcc NAMES "$ENV{CUDACXX}" NO_CACHE)
    if(NOT nvcc)
      set(${reason} "CUDACXX is $ENV{CUDACXX}, which is no program" PARENT_SCOPE)
      return()
    endif()
  else()
    find_program(nvcc NAMES nvcc PATHS ENV PATH NO_DEFAULT_PATH NO_CACHE)  # the default paths would find toolkits that PATH hides
    if(NOT nvcc)
      set(nvcc "${from_pip}")
    endif()
  endif()
  if(NOT nvcc)
    set(${reason} "no nvcc in CUDACXX, in PATH or in Python's nvidia/cu13 package" PARENT_SCOPE)
    return()
  endif()

  find_program(host_compiler NAMES "$ENV{CXX}" c++ g++ clang++ NO_CACHE)
  if(NOT host_compiler)
    set(${reason} "${nvcc} is there, but no C++ compiler for it to use" PARENT_SCOPE)
    return()
  endif()
  set(${found} "${nvcc}" PARENT_SCOPE)
  if(nvcc STREQUAL from_pip)  # its libraries lie in lib, nvcc looks in lib64
    set(KDL_NVCC_LIBRARIES "${pip_toolkit}/lib" PARENT_SCOPE)
  endif()
endfunction()

# Machine code for the first architecture of every major this nvcc knows from sm_75 on, which also runs on the minors after it, and
# PTX of the newest, for the majors to come.
# `flags` are nvcc's for them: machine code from sm_80 on comes of one compute_80, for nothing in the kernels is of a later architecture, and
# that saves a third of the compile time.
function(kdl_default_architectures nvcc list flags)
  execute_process(COMMAND "${nvcc}" --list-gpu-code OUTPUT_VARIABLE codes COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "sm_[0-9]+" codes "${codes}")
  list(SORT codes COMPARE NATURAL)
  set(architectures "")
  set(previous "")
  foreach(code IN LISTS codes)
    string(REGEX REPLACE "sm_([0-9]+)[0-9]$" "\\1" major "${code}")
    string(REGEX REPLACE "sm_" "" number "${code}")
    if(number GREATER_EQUAL 75 AND NOT major STREQUAL previous)
      list(APPEND architectures "${number}-real")
      set(previous "${major}")
      set(newest "${number}")
    endif()
  endforeach()
  set(older "")
  set(middle "")
  foreach(architecture IN LISTS architectures)
    string(REPLACE "-real" "" number "${architecture}")
    if(number LESS 80)
      list(APPEND older "-gencode=arch=compute_${number},code=sm_${number}")
    elseif(NOT number EQUAL newest)
      list(APPEND middle "sm_${number}")
    endif()
  endforeach()
  list(JOIN middle "," middle)
  set(${flags} ${older} "-gencode=arch=compute_80,code=[${middle}]" "-gencode=arch=compute_${newest},code=[sm_${newest},compute_${newest}]" PARENT_SCOPE)
  list(APPEND architectures "${newest}-virtual")
  set(${list} "${architectures}" PARENT_SCOPE)
endfunction()

# The directories of cuda_fp16.h and nv/target, which are all that the simt flavours take from CUDA: of a toolkit, or of the header packages
# on PyPI (nvidia-cuda-runtime, nvidia-cuda-crt, nvidia-cuda-cccl).
function(kdl_find_cuda_headers directories)
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])"
    OUTPUT_VARIABLE pip_toolkit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(roots "")
  if(KDL_NVCC)
    execute_process(COMMAND "${KDL_NVCC}" --dryrun -x cu -E /dev/null ERROR_VARIABLE steps OUTPUT_QUIET)
    if(steps MATCHES "INCLUDES=\"-I([^\"]+)\"")
      list(APPEND roots "${CMAKE_MATCH_1}")
    endif()
  endif()
  list(APPEND roots "${pip_toolkit}/include" "$ENV{CUDA_PATH}/include" /usr/local/cuda/include)
  find_path(fp16 cuda_fp16.h PATHS ${roots} NO_DEFAULT_PATH NO_CACHE)
  if(NOT fp16)
    message(FATAL_ERROR "kdl: the simt kernels need CUDA's headers (no compiler, no GPU): install the toolkit, or "
      "pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl")
  endif()
  set(${directories} "${fp16}" "${fp16}/cccl" PARENT_SCOPE)
endfunction()

# pybind11 is a Python package: outside a pip build only Python knows where it is.
macro(kdl_find_pybind11)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(pybind11 CONFIG REQUIRED)
endmacro()

# How many nvcc may run at once: one per core, but each family takes up to 1.5 GB, and a build must not exhaust the machine.
function(kdl_compile_jobs jobs)
  cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
  cmake_host_system_information(RESULT free_mb QUERY AVAILABLE_PHYSICAL_MEMORY)
  math(EXPR by_memory "${free_mb} / 1536")
  set(count "${cores}")
  if(by_memory LESS count)
    set(count "${by_memory}")
  endif()
  if(count LESS 1)
    set(count 1)
  endif()
  set(${jobs} "${count}" PARENT_SCOPE)
endfunction()
