# Each target works alone on a fresh machine: it makes .venv, installs the pinned set, and does
# neither a second time.
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt --editable
# Tests run two at a time; one thread each keeps them from fighting over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

# Of `make driver` and `make faults`: the run's seed, and further arguments of its script.
SEED := 0
OPTIONS :=

.PHONY: help book lab test check plain lint driver colab bench doom faults address clean

help:
	@echo "make book    build the site and print where it is"
	@echo "make lab     open JupyterLab on the first notebook"
	@echo "make check   the fast checks, under three minutes"
	@echo "make test    everything CI runs"
	@echo "make driver  the recipe of the shipped driver, from nothing: hours; SEED=0"
	@echo "make plain   the chapters and the tests of the core without wmlib.fast"
	@echo "make colab   run every chapter on a stand-in for Colab"
	@echo "make bench   measure this machine"
	@echo "make faults  attack it: kills, damage, signals, full disks (about an hour)"
	@echo "make address URL=https://github.com/you/your-fork"
	@echo "make doom    train chapter 12's agent from nothing, hours on two cores"
	@echo "make clean   remove the built site"

book: $(VENV)/.reader
	$(BIN)/jupyter-book build . -W -n --keep-going
	@echo "The book is built: file://$(CURDIR)/_build/html/index.html"

lab: $(VENV)/.reader
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_*.ipynb

check: lint
	$(PYTEST) -m "not slow"

# A browser comes first: better one line now than an error for each of its tests later. The site is
# built from nothing: a page that is not read again does not repeat its warnings.
test: $(VENV)/.dev
	$(BIN)/python tests/find_browser.py
	$(MAKE) lint
	$(MAKE) clean
	$(MAKE) book
	$(PYTEST) --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks
	$(PYTEST)

# The core's tests and the chapters with the door to wmlib.fast shut: slower, and nothing else. What
# a chapter asserts must hold; what it prints is not compared, as bfloat16 and EnvPool's copy of the
# game leave their marks there.
plain: $(VENV)/.dev
	WMLIB_FAST=0 $(PYTEST) --nbval-lax --nbval-current-env notebooks
	WMLIB_FAST=0 $(PYTEST) -m "not fast and not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=runs/carracing-v3 $(BIN)/mypy runs/carracing-v3/driver.py

# Killed at any time, the same command goes on.
driver: $(VENV)/.reader
	$(BIN)/python runs/carracing-v3/driver.py --seed $(SEED) $(OPTIONS)

# The chapters run without .venv: their first cell installs wmlib, as it stands in the last commit.
colab: $(VENV)/.reader
	$(BIN)/python tests/colab/run.py

bench: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/run.py

# It goes on where it was stopped; what it needs and leaves is said in runs/takecover/README.md.
doom: $(VENV)/.dev
	$(BIN)/python runs/takecover/train.py

# Stopped, it goes on with OPTIONS=--resume.
faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/run.py --seed $(SEED) $(OPTIONS)

address: $(VENV)/.reader
	$(BIN)/python book/address.py $(URL)

clean:
	rm -rf _build

$(VENV)/.dev: $(VENV)/.reader
	$(INSTALL) ".[dev]"
	@touch $@

$(VENV)/.reader: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) ".[book,fast,notebooks]"
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      2>/dev/null; then \
	    echo "Making $(VENV) with $$python"; \
	    $$python -m venv $(VENV) || rm -rf $(VENV); \
	    test -x $@; exit; \
	  fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 is needed, and none was found." >&2; \
	echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	exit 1
