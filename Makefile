# Each target sets up what it needs in .venv; a second run skips the set-up. Python 3.11 or newer; everything runs on the CPU.
# Options: PYTHON=python3.12 (interpreter for .venv), PYTEST_ARGS="-k volume", DEMO_OUT=folder.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_OUT ?= demo-output
PYTEST_ARGS ?=
# One process a core, one thread each: threads of several processes would wait for one another. A file's tests stay
# together, so that its fixtures are made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: help demo test test-slow lint docs bench clean

help:
	@printf '%s\n' \
	  'make demo       generate with both bundled models, reconstruct a real stack, write one page to $(DEMO_OUT)/' \
	  'make test       all tests but the slow ones (CPU, no network once set up)' \
	  'make test-slow  the slow tests: training, interrupted and resumed' \
	  'make lint       ruff, mypy --strict, import contracts, pyproject.toml' \
	  'make docs       the documentation, strictly, to site/' \
	  'make bench      quality of the bundled models, quick version' \
	  'make clean      remove what the targets above made, and .venv'

demo: $(STAMPS)/base
	$(BIN)/napari-vqldm demo --out $(DEMO_OUT) --force
	@printf 'Open %s\n' "$(abspath $(DEMO_OUT))/index.html"

test: $(STAMPS)/test
	$(PYTEST) -m "not slow and not gpu" $(PYTEST_ARGS)

test-slow: $(STAMPS)/test
	$(PYTEST) -m "slow and not gpu" $(PYTEST_ARGS)

lint: $(STAMPS)/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/validate-pyproject pyproject.toml

docs: $(STAMPS)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@printf 'Open %s\n' "$(abspath site)/index.html"

bench: $(STAMPS)/test
	$(BIN)/python benchmarks/bundled.py --quick

clean:
	rm -rf $(VENV) site demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# --- set-up -----------------------------------------------------------------------------------------------------------

$(STAMPS)/venv: tools/setup_venv.sh
	bash tools/setup_venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/base: $(STAMPS)/venv pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/base
	$(INSTALL) --editable '.[test,train,zarr,metrics]'
	@touch $@

$(STAMPS)/lint: $(STAMPS)/test
	$(INSTALL) --editable '.[test,train,zarr,metrics]' --group lint
	@touch $@

$(STAMPS)/docs: $(STAMPS)/base
	$(INSTALL) --editable '.[docs]'
	@touch $@
