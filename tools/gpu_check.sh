#!/usr/bin/env bash
# The operator on a GPU, on a machine that needs no network: builds, tests, sanitizes and measures it, in FAN_SECONDS
# (450; the report has what the rest leaves, and names what it leaves out).
#
#   [PYTHON=python3] [OUT=build/gpu-check] [FAN_WHEEL=wheel] [FAN_COMMIT=$(git rev-parse HEAD)] bash tools/gpu_check.sh
#
# Needs Python 3.11 or later with torch, torchvision, numpy, matplotlib, opencv, safetensors, rich, pytest,
# scikit-build-core, pybind11, cmake and ninja; nvcc, cuobjdump and compute-sanitizer. pytest-xdist and pytest-timeout
# are used if they are there. FAN_WHEEL is installed in place of a build for the GPU at hand; FAN_WHEEL=installed takes
# what is installed and builds nothing. FAN_TESTS are the tests to run. FAN_TEST_DEVICE=cpu rehearses it without a GPU.
#
# OUT has at all times what was done so far: summary.txt, log.txt, sanitizer.txt, report.md, report.json, and at last a
# plot for each dtype. A stage that fails or outlasts its limit does not stop the others; the exit code is then 1.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-build/gpu-check}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
(cd "$OUT" && rm -f summary.txt log.txt sanitizer.txt report.md report.json float32.png float16.png bfloat16.png)
python=${PYTHON:-python3} wheel=${FAN_WHEEL:-} device=${FAN_TEST_DEVICE:-cuda} cores=$(nproc) failed=0
export PYTHONUNBUFFERED=1 FAN_TEST_DEVICE=$device
slow=$([ "$device" = cuda ] && echo 1 || echo 8) # a rehearsal has fewer cores, and may have to share them
scratch=$(mktemp -d)
export TORCHINDUCTOR_CACHE_DIR=$scratch/compiled # what is there of another build does not fit this one's operators
trap 'rm -rf "$scratch"' EXIT

say() { echo "$*" | tee -a "$OUT/summary.txt"; }
has() { "$python" -c "import $1" 2> /dev/null; }

# stage NAME SECONDS COMMAND...: each line of its output goes to the log as it comes, its fate to the summary.
stage() {
  local name=$1 limit=$(($2 * slow)) begin=$SECONDS code files=("$OUT/log.txt")
  shift 2
  case $name in *check | control) files+=("$OUT/sanitizer.txt") ;; esac
  # pytest, when interrupted, still says what has failed. What outlives its stage does not hold up the others, and a
  # flood of lines does not fill the disk.
  timeout --signal=INT --kill-after=10 "$limit" "$@" 2>&1 |
    timeout $((limit + 15)) sed -u -n "1,40000s/^/[$name] /p" | tee -a "${files[@]}" > "$scratch/$name.log"
  code=${PIPESTATUS[0]}
  say "$name: $([ "$code" = 0 ] && echo ok || echo "FAILED ($code)"), $((SECONDS - begin)) s." \
    "$(tail -n 1 "$scratch/$name.log" | cut -c "$((${#name} + 4))-300")"
  return "$code"
}

stage machine 60 "$python" -P -c "
import sys, torch
if sys.argv[1] == 'cpu':
    sys.exit(print('a CPU, to try this out, torch', torch.__version__))
p = torch.cuda.get_device_properties(0)
versions = f'torch {torch.__version__}, CUDA {torch.version.cuda}'
print(f'sm_{p.major}{p.minor} {p.name}, {p.total_memory >> 30} GiB, {versions}')" \
  "$device" || failed=1

# cmake and ninja may be Python's own. The architecture is the card's, and no other.
PATH=$(dirname "$(command -v "$python")"):$PATH
architecture=$(sed -n 's/^\[machine\] sm_\([0-9]*\) .*/\1-real/p' "$scratch/machine.log")
export CUDAARCHS=${CUDAARCHS:-${architecture:-90-real}} CMAKE_BUILD_PARALLEL_LEVEL=$cores FAN_EXT_CUDA=ON
export CUDAFLAGS=-lineinfo # for what the sanitizer says
install=("$python" -m pip install --verbose --no-index --no-deps)
case $wheel in
  installed) say "build: left out, and with it the control" ;;
  ?*) stage build 60 "${install[@]}" --force-reinstall "$wheel" ;;
  *) stage build 150 "${install[@]}" --no-build-isolation --config-settings "build-dir=$scratch/build" . ;;
esac && stage versions 60 "$python" -P -c "import fan_ext, torch; print(fan_ext.build_info())" ||
  { say "there is nothing to check"; exit 1; }

# Nothing of this is timed: side by side, the tests in front, where they can be interrupted.
others=()
beside() { stage "$@" & others+=($!); }
export OMP_NUM_THREADS=$(((cores + 7) / 8)) TORCHINDUCTOR_COMPILE_THREADS=1
if [ "$device" != cuda ]; then # nothing for a tool to look at
  PATH=$scratch:$PATH tool=$scratch/compute-sanitizer
  printf '#!/bin/sh\necho "========= ERROR SUMMARY: 0 errors, of a stand-in for the tool"\n' > "$tool"
  chmod +x "$tool"
fi
for tool in memcheck racecheck initcheck synccheck; do
  beside "$tool" 200 "$python" tests/gpu/sanitizer_check.py --tool "$tool" --device "$device"
done
[ "$wheel" = installed ] ||
  beside control 200 "$python" tests/gpu/sanitizer_control.py "$scratch" --device "$device"
# The installed package, not the sources in this folder, also where a test starts Python. One test starts this script.
# A file that cannot be imported stops no other.
tests=(env PYTHONSAFEPATH=1 "$python" -m pytest -v --tb=short -p no:cacheprovider --continue-on-collection-errors)
[ "$cores" -lt 8 ] || ! has xdist || tests+=(-n 8)
! has pytest_timeout || tests+=(--timeout=$((100 * slow)) --timeout-method=thread)
stage tests 200 "${tests[@]}" ${FAN_TESTS:-tests/gpu tests/fan_ext tests/benchmarks/test_gpu_*.py \
  tests/benchmarks/test_launch_table.py tests/native/test_cuda_binary.py --ignore=tests/gpu/test_gpu_check.py} || failed=1
for other in "${others[@]}"; do wait "$other" || failed=1; done
unset OMP_NUM_THREADS TORCHINDUCTOR_COMPILE_THREADS

# Alone on the GPU. What is left of the time is known to the report, which writes what it has before it ends.
left=$((${FAN_SECONDS:-450} * slow - SECONDS))
report=("$python" benchmarks/gpu_report.py --device "$device" --output "$OUT" --seconds $((left - 40)))
if [ "$device" = cuda ]; then report+=(--compile-seconds 75)
else report+=(--compile-seconds 0 --rounds 3 --size 64x3x64 --size 4x300x64 --size 4x300x64:packed); fi
stage report "$left" "${report[@]}" || failed=1
say "$([ $failed = 0 ] && echo "all is well" || echo "something failed: see log.txt"), $SECONDS s"
exit $failed
