# `make report` and `make test` set up all they need themselves, in .venv.
#   PYTHON=python3.12 make test     with another Python (3.11 or newer)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES_HASH := $(shell cat src/movable/compiled/*.py src/movable/mm/*.py | cksum | cut -d' ' -f1)
NUMBA_CACHE := $(CURDIR)/.numba_cache/$(SOURCES_HASH)

# Tests of small zones: they run in all three modes (see CONTRIBUTING.md).
SMALL := tests/property $(wildcard tests/unit/compiled tests/unit/model)

.PHONY: report test lint test-no-jit test-bounds test-jit clean

# An editable install leaves compiling to the first run; with PYTHONDONTWRITEBYTECODE, to each run.
report: $(VENV)/installed
	@$(BIN)/python -m compileall -q src/movable
	@$(BIN)/python -m movable --version
	@if $(MAY_CAPTURE) && $(BIN)/movable capture -o this-machine.movable --force; then \
		snapshot=this-machine.movable; \
	else \
		echo "This machine cannot be captured (that takes root on Linux): showing a recorded one." >&2; \
		snapshot=sample:gpu; \
	fi; \
	$(BIN)/movable "$$snapshot" || snapshot=sample:gpu; \
	$(BIN)/movable report "$$snapshot" -o report.html --force >/dev/null && \
	echo && echo "The map and all figures: file://$(CURDIR)/report.html"

MAY_CAPTURE := [ "$$(uname -s)" = Linux ] && [ "$$(id -u)" = 0 ] && [ -r /proc/kpageflags ]

# The tests in plain JIT mode come last, so that the last line says how they went.
test: lint test-no-jit test-bounds test-jit

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test-no-jit: $(VENV)/installed-test
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m "not large" $(SMALL)

test-bounds: $(VENV)/installed-test
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(NUMBA_CACHE)-bounds $(BIN)/python -m pytest -q -m "not large" $(SMALL)

test-jit: $(VENV)/installed-test
	NUMBA_CACHE_DIR=$(NUMBA_CACHE) $(BIN)/python -m pytest

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "movable needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
	@echo "Installing into $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) .numba_cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
