# Two commands set everything up:  make demo   and   make test
#
#   make setup      .venv with everything for development
#   make demo       .venv with medgraft alone, then the main job on phantom images
#   make test       the tests, without the slow ones      (ARGS="-k dicom" reaches pytest)
#   make test-all   the tests, slow ones too
#   make check      style, types, house rules, tests: what a change must pass
#   make house      the house rules alone, in seconds
#   make format     puts the style right
#   make docs       writes the reference pages in docs/ from the code
#   make bench      lists the benchmarks; make bench NAME=classify runs one
#   make clean      removes what these commands made, the runs excepted
#
# Another interpreter:  make setup PYTHON=python3.12

PYTHON ?= python3
ARGS ?=
NAME ?=

# Relative names, so that a checkout may live in a folder with spaces.
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(PY) -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test test-all check lint types house format docs bench clean

help:
	@sed "/^$$/q; s/^# \{0,1\}//" Makefile

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit("medgraft needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu install python3-venv." >&2; exit 2; }

# The stamps make a second call cost nothing; an edited pyproject.toml or constraints.txt installs again.
$(INSTALLED): pyproject.toml constraints.txt | $(PY)
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt | $(PY)
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $(INSTALLED) $@

setup: $(INSTALLED_DEV)
	@echo "Ready: $(VENV)/bin/medgraft"

demo: $(INSTALLED)
	@if [ -e demo/run/report.html ]; then echo "It was run before: demo/run/report.html. To run it again: rm -r demo"; \
	else $(VENV)/bin/medgraft demo --out demo; fi

# Two processes of one thread each: the nets of the tests are too small to gain from a second thread.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile

test: $(INSTALLED_DEV)
	$(PYTEST) $(ARGS)

test-all: $(INSTALLED_DEV)
	$(PYTEST) -m "" $(ARGS)

check: lint types test

lint: $(INSTALLED_DEV)
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(INSTALLED_DEV)
	$(PY) -m pyright

house: $(INSTALLED_DEV)
	$(PY) -m pytest tests/house tests/contract $(ARGS)

format: $(INSTALLED_DEV)
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

docs: $(INSTALLED_DEV)
	$(PY) docs/build.py

bench: $(INSTALLED_DEV)
ifeq ($(NAME),)
	@$(PY) -c 'import ast, pathlib; files = sorted(pathlib.Path("benchmarks").glob("[!_]*.py")); print("\n".join("make bench NAME=%-12s %s" % (f.stem, (ast.get_docstring(ast.parse(f.read_text())) or "").split("\n")[0]) for f in files) or "There is no benchmark yet.")'
else
	$(PY) benchmarks/$(NAME).py $(ARGS)
endif

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis
