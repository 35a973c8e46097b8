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
# Compiled files are written: tests start many processes, and each would compile everything again.
# Windows of the dock open on a display that nobody sees, unless there is a real one.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 bash tools/with_display.sh $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: help demo test test-slow lint docs bench clean

help:
	@printf '%s\n' \
	  'make demo       generate with both bundled models, reconstruct a real stack, write one page to $(DEMO_OUT)/' \
	  'make test       all tests but the slow ones (CPU, no network once set up)' \
	  'make test-slow  the slow tests: training, interrupted and resumed; those of the dock once more on PyQt6' \
	  'make lint       ruff, mypy --strict, import contracts, pyproject.toml, the napari manifest' \
	  'make docs       the documentation, strictly, to site/' \
	  'make bench      quality of the bundled models, quick version' \
	  'make clean      remove what the targets above made, and .venv'

demo: $(STAMPS)/base
	$(BIN)/napari-vqldm demo --out $(DEMO_OUT) --force
	@printf 'Open %s\n' "$(abspath $(DEMO_OUT))/index.html"

test: $(STAMPS)/test $(STAMPS)/display
	$(PYTEST) -m "not slow and not gpu" $(PYTEST_ARGS)

test-slow: $(STAMPS)/test $(STAMPS)/display $(STAMPS)/pyqt6
	$(PYTEST) -m "slow and not gpu" $(PYTEST_ARGS)
	PYTHONPATH=$(abspath $(VENV))/pyqt6 QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(PYTEST) -m "(not slow or both_bindings) and not gpu" tests/plugin

lint: $(STAMPS)/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/npe2 validate --no-imports src/napari_vqldm/napari.yaml

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
	$(INSTALL) --editable '.[test,train,zarr,metrics,inside,napari]' --group gui-test
	@touch $@

$(STAMPS)/display: tools/setup_display.sh $(STAMPS)/venv
	bash tools/setup_display.sh
	@touch $@

# A second Qt binding, for tests alone and in a folder of its own: beside PySide6 it would be chosen first.
$(STAMPS)/pyqt6: $(STAMPS)/venv constraints.txt
	$(INSTALL) --upgrade --target $(VENV)/pyqt6 PyQt6
	@touch $@

$(STAMPS)/lint: $(STAMPS)/test
	$(INSTALL) --editable '.[test,train,zarr,metrics,inside,napari]' --group gui-test --group lint
	@touch $@

$(STAMPS)/docs: $(STAMPS)/base
	$(INSTALL) --editable '.[docs]'
	@touch $@
