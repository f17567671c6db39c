# make repro    environment, extension, and the whole pipeline (dvc repro)
# make test     environment, extension, and every check
# make build    environment and extension
# make asan     the operators' tests under AddressSanitizer and UBSan
# make compare  every method against likelihood, in some 130 minutes on two cores (experiments/README.md)
# make experiment PARAMS=experiments/multi30k/params-cpu.yaml [SET="data.path=/data/multi30k"]
#               the pipeline on that corpus with those parameters, and its record (experiments/README.md)
# make bench    every benchmark with a bar, in some five minutes; wants two idle cores
# make gpu-check  what only a GPU can show, on a machine that has torch with CUDA and nvcc, and no .venv
# make lock     requirements.lock anew, from pyproject.toml
#
# On Linux the package index serves a CUDA build of torch of several gigabytes. For the CPU build:
#     make repro TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PARAMS ?= $(error name the parameters of an experiment: make experiment PARAMS=experiments/multi30k/params.yaml)
SET ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN := PATH="$(abspath $(BIN)):$$PATH"
SOURCES := setup.py pyproject.toml $(wildcard csrc/* csrc/*/*)

.PHONY: repro compare experiment test asan bench gpu-check gpu-wheels build lint lock

repro: build
	$(RUN) dvc repro

compare: build
	$(RUN) dvc repro experiments/comparison/dvc.yaml

experiment: build
	$(RUN) python -m stages.experiment $(PARAMS) $(SET)

test: export RLSEQ2SEQ_WERROR = 1
test: build lint
	$(RUN) dvc repro --dry --allow-missing
	$(BIN)/python -m pytest

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Python and torch leak by design, so leaks are not asked for. Exceptions are intercepted in libstdc++, which Python alone
# does not load: it has to be there from the start.
SANITIZED = PYTHONPATH=build/sanitized/lib \
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
asan: build
	RLSEQ2SEQ_SANITIZE=1 RLSEQ2SEQ_CUDA=0 $(BIN)/python -W ignore setup.py --quiet build \
		--build-base build/sanitized --build-lib build/sanitized/lib >/dev/null
	$(SANITIZED) $(BIN)/python -P -c 'from rlseq2seq.ops import extension as e; assert "-fsanitize" in e.load().build_facts()["flags"]'
	$(SANITIZED) $(BIN)/pytest tests/test_ops_*.py

bench: build
	$(PIP) install -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

gpu-check:
	$(PYTHON) -m benchmarks.gpu_check

# The pure Python packages that such a machine may lack, as wheels for its Python 3.12.
gpu-wheels: $(VENV)/.installed
	rm -rf build/wheels
	$(PIP) wheel --no-deps --wheel-dir build/wheels $$(grep -E '^(absl-py|annotated-types|colorama|defusedxml|nltk|portalocker|rouge[_-]score|ruamel.yaml|sacrebleu|six|tabulate|typing-inspection|typing_extensions)==' requirements.lock)
	$(PIP) download --no-deps --dest build/wheels --only-binary :all: --python-version 3.12 --platform manylinux2014_x86_64 \
		$$(grep -E '^(lxml|pydantic|pydantic_core|regex)==' requirements.lock)

build: $(VENV)/.built

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=...")'
	@echo "installing the pinned packages into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) install --index-url $(TORCH_INDEX) $$(grep '^torch==' requirements.lock))
	$(PIP) install -r requirements.lock
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	@echo "building the extension"
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0 setuptools wheel ninja pybind11
	.venv-lock/bin/pip install --quiet --no-build-isolation --editable '.[pipeline,dev]'
	.venv-lock/bin/pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//' > requirements.lock
	rm -r .venv-lock
