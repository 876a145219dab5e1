# `make` trains LeNet-5 on real digits, `make test` runs the tests; `make help` lists the rest.
# The first run makes a virtual environment in .venv; NO_VENV=1 uses the current interpreter and installs nothing.

VENV := .venv
ARGS :=

ifdef NO_VENV
PYTHON := PYTHONPATH=$(CURDIR) python3
CMAKE := cmake
ready =
else
PYTHON := $(VENV)/bin/python
CMAKE := $(VENV)/bin/cmake
ready = $(VENV)/.has-$(1)
endif

# In place, CUDA is compiled for this machine's GPU; without one for Hopper alone, whose registers the tests count.
# The wheel holds all architectures.
ARCHITECTURES := $(shell nvidia-smi -L >/dev/null 2>&1 && echo native || echo 90-real)

has_compiler = command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null

# NumPy's BLAS takes its kernels from the CPU, not from the environment
unexport OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

.PHONY: train test simt lint bench gpu-bench kernels gpu-test wheel doctor help clean
.DEFAULT_GOAL := train

train: $(call ready,demo)  ## train LeNet-5 on scikit-learn's digits (ARGS="--epochs 20 --variant relu")
	@$(PYTHON) -m kdl train lenet5 $(ARGS)

test: $(call ready,dev) kernels  ## run the tests (ARGS="-k conv")
	@OPENBLAS_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist worksteal $(ARGS)  # a test process has no core to spare

simt: $(call ready,dev) kernels  ## run the CUDA kernels' source on the CPU in every mode (ARGS="race asan -k pool")
	@OPENBLAS_NUM_THREADS=1 $(PYTHON) -m tests.simt $(ARGS)

lint: $(call ready,dev)  ## check the style and the types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m tests.stubs --check || { echo "run python -m tests.stubs"; exit 1; }
	@$(PYTHON) -m mypy

bench: $(call ready,dev)  ## measure the CPU kernels against NumPy and torch (ARGS="conv pool --quick --gates")
	@$(PYTHON) -m kdl bench $(ARGS)

gpu-bench: $(call ready,dev)  ## the GPU suite within 8 minutes, into $OUT or benchmarks/results/cuda; a rehearsal without a GPU
	@$(PYTHON) -m kdl bench --device cuda --within 420 --gates --out $(or $(OUT),benchmarks/results/cuda) $(ARGS)

kernels: $(call ready,dev)  ## build the compiled kernels in place: for the CPU (simt), and for CUDA where nvcc is found
	@$(has_compiler) || echo "no C++ compiler: the compiled kernels are left out, and their tests skipped"
	$(call step,compiled kernels,if $(has_compiler); then $(CMAKE) -S . -B build/kernels -G Ninja -DKDL_INPLACE=ON -DKDL_SIMT=ON \
		-DCMAKE_CUDA_ARCHITECTURES=$(ARCHITECTURES) -DPython_EXECUTABLE=$$($(PYTHON) -c 'import sys; print(sys.executable)') \
		&& $(CMAKE) --build build/kernels; fi)

# For a machine with a GPU: its own python3 with NumPy, Numba, CuPy, pybind11 and pytest; nothing is fetched. $OUT, if
# set, receives the results.
gpu-test: override OUT := $(or $(OUT),build/gpu)
gpu-test:  ## test the CUDA kernels on this machine's GPU, with its own python3 and without a network
	@nvidia-smi -L >/dev/null 2>&1 || { echo "gpu-test needs an NVIDIA GPU: nvidia-smi finds none"; exit 1; }
	@mkdir -p $(OUT)
	@$(MAKE) --no-print-directory kernels NO_VENV=1
	@PYTHONPATH=$(CURDIR) sh tests/gpu_test.sh $(OUT)

wheel: $(call ready,dev)  ## build the wheel into dist/ (KDL_CUDA=AUTO|ON|OFF, KDL_PIP_NVCC=1)
	@$(PYTHON) -m build --wheel

doctor: $(call ready,demo)  ## say what works on this machine, and why the rest does not
	@$(PYTHON) -m kdl doctor

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1@/p' Makefile | awk -F@ '{ printf "  make %-10s %s\n", $$1, $$2 }'

clean:  ## remove everything that was built
	rm -rf $(VENV) build dist kdl/kernels/*.so tests/simt/*.so
	find kdl tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# --- the virtual environment ---
# One step a line, with its time; what it printed is shown when it fails.
define step
	@mkdir -p build; start=$$(date +%s); printf '%s ... ' "$(1)"; \
	if { $(2); } > build/log 2>&1; then echo "$$(($$(date +%s) - start)) s"; \
	else echo failed; tail -n 30 build/log; exit 1; fi
endef

find_python = $$(for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)

install = if command -v uv; then uv pip install --python $(VENV)/bin/python $(1); \
	elif [ -x $(VENV)/bin/pip ]; then $(VENV)/bin/pip install $(1); \
	else python3 -m pip --python $(VENV)/bin/python install $(1); fi

$(VENV)/bin/python:
	@python=$(find_python); [ -n "$$python" ] || { echo "kdl needs Python 3.11 or newer; none was found"; exit 1; }
	$(call step,virtual environment,\
		if command -v uv; then uv venv --allow-existing --python $(find_python) $(VENV); \
		else $(find_python) -m venv $(VENV) || $(find_python) -m venv --without-pip $(VENV); fi)

# The package is installed editable and pure: the compiled kernels are built in place, by `make kernels`.
$(VENV)/.has-%: pyproject.toml | $(VENV)/bin/python
	$(call step,install kdl and what '$*' needs,KDL_CUDA=OFF; export KDL_CUDA; $(call install,-e '.[$*]'))
	@touch $@
