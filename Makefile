# make demo | test | sanitize | stand-in | lint | format | bench | clean. Each sets up what it needs, in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# CUDA where an NVIDIA driver answers, else the CPU: the extra that brings onnxruntime.
RUNTIME ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
SOURCES := $(wildcard custom_ops/*) pyproject.toml constraints.txt
NATIVE = $(shell git ls-files '*.h' '*.inl' '*.cpp' '*.cu')

.PHONY: demo test test-oldest sanitize stand-in lint format bench clean

demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py --output demo

test: lint $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile
	$(MAKE) test-oldest

# The oldest releases that pyproject.toml admits, of all that reads or runs a model.
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -q -n auto --dist loadfile -m "not heavy"

# The tests of the kernels under AddressSanitizer and UBSan, with shapes drawn anew at every run.
sanitize: .venv-sanitize/.installed
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc \
		.venv-sanitize/bin/python -m pytest -q -n auto tests/custom_ops \
		--hypothesis-seed=random --ignore tests/custom_ops/test_library.py -k "not beyond_this_memory"

# For a GPU, on a machine without one: the CUDA kernels compiled for the CPU and run by onnxruntime's
# CUDA provider, and where that places the nodes of converted networks.
stand-in: .venv-stand-in/.installed
	.venv-stand-in/bin/python tools/cuda_stand_in/build.py build/stand_in
	LD_LIBRARY_PATH=build/stand_in/lib .venv-stand-in/bin/python tools/gpu_check.py \
		--library build/stand_in/ops/libonnx_snn_ops.so --only kernels placement --json -

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

bench: $(VENV)/.installed
	$(BIN)/python tools/bench_if_neuron.py
	$(BIN)/python tools/bench_calibration.py

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/pip $(SOURCES)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(RUNTIME),plot]"
	touch $@

$(VENV)/.installed-test: $(BIN)/pip $(SOURCES)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(RUNTIME),plot,models,test]"
	touch $@ $(VENV)/.installed

.venv-oldest/.installed: $(SOURCES) constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install -q -c constraints-oldest.txt -C cmake.define.ONNX_SNN_CUDA=OFF \
		-C build-dir=build/oldest -e ".[cpu,plot,test]"
	touch $@

.venv-sanitize/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv-sanitize
	.venv-sanitize/bin/pip install -q -c constraints.txt -C cmake.define.ONNX_SNN_CUDA=OFF \
		-C cmake.define.ONNX_SNN_SANITIZE=ON -C build-dir=build/sanitize -e ".[cpu,plot,test]"
	touch $@

.venv-stand-in/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv-stand-in
	.venv-stand-in/bin/pip install -q -c constraints.txt -C cmake.define.ONNX_SNN_CUDA=OFF \
		-C build-dir=build/stand_in_cpu -e ".[gpu]"
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-sanitize .venv-stand-in build demo
