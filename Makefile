# `make help` lists what there is to do.
#
# PYTHON     a Python 3.11 to 3.13 (found by itself)
# MODEL      for `make serve` and `make mac`: a hub id, a checkpoint's folder, or gena-mini
# DOCTOR     for `make mac`: options of `gena doctor`
# WORKERS    tests that run at a time; they wait a third of their time, for servers to start and so on
# PIP_FLAGS  for pip, such as an index of CPU-only torch: on Linux the usual one brings CUDA along

VENV ?= .venv
PIP_FLAGS ?=
MODEL ?=
DOCTOR ?=
WORKERS ?= 3

IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(IN_RANGE)' 2>/dev/null && echo $$python && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt $(PIP_FLAGS)

.PHONY: help install dev demo serve test mac check format clean

help:
	@echo 'make demo                  serve the shipped model gena-mini, and print a request that works'
	@echo 'make serve [MODEL=...]     serve GENA-LM bert-base, another hub id, a folder, or gena-mini'
	@echo 'make test                  the tests'
	@echo 'make mac [MODEL=...]       try everything on this Mac, and write a report (half an hour or more)'
	@echo 'make check                 linter, formatter, type checker, and what may import what'
	@echo 'make format                reformat'
	@echo 'make install | make dev    only fill $(VENV), for use or for development'
	@echo 'make clean                 remove $(VENV) and caches; bundles stay'

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

# torch has no wheel for any other Mac.
THIS_MAC := import platform, sys; \
	fits = platform.machine() == "arm64" and int(platform.mac_ver()[0].split(".")[0]) >= 14; \
	sys.exit(sys.platform == "darwin" and not fits and \
	"This needs a Mac with Apple silicon, macOS 14 or later, and a Python that runs on it natively.")

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 to 3.13 was found. Install one (python.org/downloads, or'; \
		echo 'brew install python@3.12), or name one: make PYTHON=...'; exit 1; }
	@$(PYTHON) -c '$(THIS_MAC)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) (torch and coremltools are large) ...'
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) (torch and coremltools are large) ...'
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

demo: install
	$(BIN)/python -m tools.demo

serve: install
	$(BIN)/gena serve $(if $(MODEL),--model '$(MODEL)')

# Some hundred processes start: that none of them keeps what it compiled would be a minute.
test: dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

mac:
	@$(MAKE) --no-print-directory dev || { echo; \
		echo 'The installation failed, as said above. Where that does not help, copy it into an'; \
		echo 'issue of this project; it may name folders of yours.'; exit 1; }
	$(BIN)/gena doctor --report gena-report.md $(if $(MODEL),--model '$(MODEL)') $(DOCTOR)

check: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	@if command -v actionlint >/dev/null; then actionlint; \
		else echo 'actionlint is not installed: .github/workflows was not checked'; fi

format: dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
