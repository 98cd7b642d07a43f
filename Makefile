# InterpNet from a fresh clone: only Python >= 3.11, pip and make are needed; everything else goes into .venv.
#   make demo       make test       make check       make help
# Another Python: make demo PYTHON=python3.13

PYTHON ?= python3
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
MINIMUM := .venv-minimum
CODE   := interpnet pipelines experiments tests docs/_site

# Containers often forbid it; then every process that a test starts would compile torch's modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check check-minimum coverage docs lint types format clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

demo: $(VENV)/.installed  ## Draw flowers, train a small network on them, audit it, and name the report
	$(BIN)/interpnet demo

test: $(VENV)/.installed-dev  ## Run all tests (JOBS=2 at a time)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadscope

check: lint types test  ## Everything that must hold before a commit: lint, types, tests

check-minimum: $(MINIMUM)/.installed  ## Run the tests with the oldest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 $(MINIMUM)/bin/python -m pytest -n $(JOBS) --dist loadscope

coverage: $(VENV)/.installed-dev  ## Run all tests and report which lines they reach
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadscope \
	  --cov=interpnet --cov=pipelines --cov=experiments --cov-report=term:skip-covered

docs: $(VENV)/.installed-docs  ## Build the site into build/site; warnings and dead links are errors
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict
	@echo "read it: $(BIN)/python -m http.server -d build/site"

lint: $(VENV)/.installed-dev  ## Check format and lint rules
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

types: $(VENV)/.installed-dev  ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

clean:  ## Remove .venv and all caches; runs/ stays
	rm -rf $(VENV) $(MINIMUM) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Python compiles a module when it is first imported: compiling all of torch beforehand takes longer than the tests save.
# The stamps are made last, so an installation that broke off is begun again.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -e '.[docs]'
	@touch $@

$(MINIMUM)/.installed: pyproject.toml tests/helpers/minimum.py
	$(PYTHON) -m venv $(MINIMUM)
	$(PYTHON) tests/helpers/minimum.py pyproject.toml > $(MINIMUM)/constraints.txt
	$(MINIMUM)/bin/python -m pip install --disable-pip-version-check --no-compile -c $(MINIMUM)/constraints.txt -e '.[dev]'
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: '$(PYTHON)' was not found; install Python 3.11 or newer, or say which: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old; InterpNet needs 3.11 or newer: make PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
