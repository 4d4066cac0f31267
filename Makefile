# Two commands: `make run` (environment, install, main job) and `make test` (environment, install, all tests).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= test,lint
WORKERS ?= 2
# the whole suite keeps each process to one thread: the tests run side by side
TEST_ENV := OMP_NUM_THREADS=1 MLFLOW_DISABLE_TELEMETRY=true RAY_USAGE_STATS_ENABLED=0

.PHONY: install run test test-fast faults lint wheel clean help

help:
	@echo "make install  make the environment $(VENV) and install jetsweep with its extras"
	@echo "make run      install, then run search_spaces/part.yaml (profile laptop where no GPU is found)"
	@echo "make test     install, then run every test;  make test-fast: those without Ray and Pythia"
	@echo "make faults   the whole matrix of faults (hours): kills of everything, a full disk, a server that goes away"
	@echo "make lint     ruff, mypy, import-linter, codespell, yamllint"
	@echo "make wheel    build the wheel, install it elsewhere and ask it for its resource files"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jetsweep needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) has no working venv module; on Debian: apt-get install python3-venv"; exit 2; }

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -c constraints.txt -e ".[$*]"
	@touch $@

install: $(VENV)/.installed-all

run: install
	$(BIN)/jetsweep run search_spaces/part.yaml

test: $(VENV)/.installed-$(EXTRAS)
	$(TEST_ENV) $(BIN)/python -m pytest -m "not ray" -n $(WORKERS) --dist loadscope
	$(TEST_ENV) $(BIN)/python -m pytest -m ray

faults: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python tests/faults/matrix.py

test-fast: $(VENV)/.installed-$(EXTRAS)
	$(TEST_ENV) $(BIN)/python -m pytest -m "not ray and not generate" -n $(WORKERS) --dist loadscope

lint: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell jetsweep tests search_spaces README.md
	$(BIN)/yamllint -s search_spaces

wheel: $(VENV)/.installed-$(EXTRAS)
	rm -rf dist
	$(BIN)/python -m pip wheel --no-deps --quiet -w dist .
	$(BIN)/python tests/check_wheel.py dist

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
