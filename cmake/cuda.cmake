# FAN_EXT_CUDA=AUTO builds the CUDA kernels where a CUDA compiler is found, ON insists, OFF does not look.
# No GPU is needed to build. CUDAARCHS in the environment overrides the architectures.
set(FAN_EXT_CUDA "AUTO" CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE FAN_EXT_CUDA PROPERTY STRINGS AUTO ON OFF)
string(TOUPPER "${FAN_EXT_CUDA}" fan_cuda_wish)
if(NOT fan_cuda_wish MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "FAN_EXT_CUDA is '${FAN_EXT_CUDA}', expected AUTO, ON or OFF")
endif()

set(FAN_EXT_HAVE_CUDA OFF)
if(NOT fan_cuda_wish STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}")
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_path('purelib'))"
      OUTPUT_VARIABLE python_packages OUTPUT_STRIP_TRAILING_WHITESPACE)
    file(GLOB toolkits LIST_DIRECTORIES true /usr/local/cuda /usr/local/cuda-*)
    find_program(fan_nvcc nvcc HINTS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin"
                 PATHS ${toolkits} "${python_packages}/nvidia/cu13" PATH_SUFFIXES bin NO_CACHE)
    if(fan_nvcc)
      set(CMAKE_CUDA_COMPILER "${fan_nvcc}")
    endif()
  endif()

  if(CMAKE_CUDA_COMPILER)
    if(DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES "$ENV{CUDAARCHS}") # CMake reads it in the first configuration of a folder only
    elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # Turing to Blackwell. Machine code also runs on later devices of the same major version (8.7, 10.3, 12.1). PTX
      # runs on all later devices: that of 10.0 also on 11.0 and whatever comes after 12.1; 12.0's would not on 11.0.
      set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100 120-real)
    endif()
    if(fan_cuda_wish STREQUAL "AUTO")
      include(CheckLanguage)
      check_language(CUDA) # a compiler that does not work is no reason to fail when nobody insisted
    endif()
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      set(FAN_EXT_HAVE_CUDA ON)
    endif()
  elseif(fan_cuda_wish STREQUAL "ON")
    message(FATAL_ERROR
            "FAN_EXT_CUDA=ON, but no CUDA compiler was found in CUDACXX, CUDA_HOME, PATH, /usr/local/cuda* or "
            "site-packages/nvidia/cu13. Install one (pip install nvidia-cuda-nvcc, or a CUDA toolkit), or set "
            "FAN_EXT_CUDA=OFF.")
  endif()
endif()
message(STATUS "fan_ext: CUDA kernels ${FAN_EXT_HAVE_CUDA} ${CMAKE_CUDA_COMPILER}")
