# Everything runs in .venv, which the first command creates. `make help` lists the commands.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The interpreter that creates .venv: yours if you name one, else the first that is new enough.
PYTHON ?=
# Where pip may also look for torch; without a GPU https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Passed on to pytest, for example: make test PYTEST_ARGS="-k neurons -x"
PYTEST_ARGS ?= -n logical --maxprocesses 4 --dist loadfile
# Passed on to Jupyter Book. Warnings are errors, missing references are warnings.
BOOK_ARGS ?= -W -n --keep-going
# One thread a worker: the workers already fill the cores.
OMP_NUM_THREADS ?= 1

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help setup book editions pdf epub slides test lint format lab clean distclean

help: ## list the commands
	@echo "Usage: make COMMAND [PYTHON=python3.12] [TORCH_INDEX=URL]"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

setup: $(STAMP) ## create .venv and install the pinned environment (the other commands do it too)
	@echo "$(VENV) is ready"

book: $(STAMP) ## build the site; open _build/html/index.html
	$(BIN)/jupyter-book build . $(BOOK_ARGS)

editions: book ## write the notebooks to take along: plain, for students, for teachers
	@echo "The notebooks are in _build/html/_plain"

pdf: $(STAMP) ## print the whole book into _build/press (needs Chromium)
	$(BIN)/python -m book.press pdf

epub: $(STAMP) ## make the book for e-readers in _build/press
	$(BIN)/python -m book.press epub

slides: $(STAMP) ## make one file of slides a part in _build/press
	$(BIN)/python -m book.press slides

test: lint ## check style and types, then run every test and every notebook
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP) ## check style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(STAMP) ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=book

clean: ## remove what was built and all caches; .venv stays
	rm -rf _build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name .venv -prune -o -name .git -prune -o \
	  \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# The stamp is written last, so an interrupted installation is taken up again by the next command,
# and it is older than the two files below as soon as one of them changes.
$(STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -r requirements.txt $(addprefix --extra-index-url ,$(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# pip runs as a module, and .venv is complete or absent: a half-made one is removed.
$(BIN)/python:
	@for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  if "$$candidate" -c "$(NEW_ENOUGH)" 2>/dev/null; then \
	    echo "Creating $(VENV) with $$("$$candidate" --version)"; \
	    rm -rf $(VENV); \
	    "$$candidate" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	    echo "error: '$$candidate -m venv' failed; the message above says why" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "error: no Python 3.11 or newer among: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)." >&2; \
	echo "Install one, or name yours: make setup PYTHON=/path/to/python3.11" >&2; \
	exit 1
