# Everything here needs only Python >= 3.10, a C++ compiler and make.
#   make demo                 set up, then train and evaluate a small detector, and leave a page
#   make demo-seg             the same with a small segmenter
#   make test                 set up, then lint and test
#   make setup STACK=openmmlab   upstream OpenMMLab beside the default stack, in its own environment
PYTHON ?= python3
STACK ?= onedl
VENV = .venv$(if $(filter-out onedl,$(STACK)),-$(STACK))
BIN = $(VENV)/bin
PYTEST_ARGS ?=
# One process a core, each of one thread: most tests are too small for two.
WORKERS ?= -n auto --maxprocesses 8 --dist worksteal
DEMO_ARGS ?=

.PHONY: help setup demo demo-baseline demo-seg test lint clean distclean

help:
	@echo "make demo       set up, train a small detector with FixNorm, leave a page with pictures"
	@echo "make demo-baseline   the same, and the same model with ordinary weight decay beside it"
	@echo "make demo-seg   train a small OCNet with FixNorm instead, on the same digits"
	@echo "make test       set up, ruff, all tests (PYTEST_ARGS='tests/core -x' for a part, WORKERS= in one process)"
	@echo "make setup      only the environment, $(VENV) (STACK=openmmlab for the upstream stack)"
	@echo "make lint       ruff, the direction of the imports, types"
	@echo "make clean      remove builds and caches; distclean removes the environments as well"
	@echo "PYTHON=python3.12 chooses the interpreter that the environment is made from."

setup:
	@$(PYTHON) tools/setup_env.py --stack $(STACK)

demo: setup
	$(BIN)/python tools/demo.py $(DEMO_ARGS)

demo-baseline: setup
	$(BIN)/python tools/demo.py --baseline $(DEMO_ARGS)

demo-seg: setup
	$(BIN)/python tools/demo.py --segment $(DEMO_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-openmmlab .setup
