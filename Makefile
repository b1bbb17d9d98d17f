# `make search` and `make test` each do all their own set-up; the environment is made once and remade when pins change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: search test test-all lint clean

search: $(VENV)/.installed
	$(BIN)/nas search space=nasnet_cell data=digits budget=3min

test: lint
	$(BIN)/python -m pytest -n auto -m "not slow" --durations=10

test-all: lint
	$(BIN)/python -m pytest -n auto --durations=20

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nas needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
