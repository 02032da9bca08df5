# Everything here needs only Python >= 3.10, a C++ compiler and make.
#   make demo                 set up, then train and evaluate two small detectors, and leave a page
#   make demo-seg             the same with a small segmenter
#   make test                 set up, then lint and test
#   make test-fast            set up, then the tests that take no time
#   make setup STACK=openmmlab   upstream OpenMMLab beside the default stack, in its own environment
PYTHON ?= python3
STACK ?= onedl
VENV = .venv$(if $(filter-out onedl,$(STACK)),-$(STACK))
BIN = $(VENV)/bin
PYTEST_ARGS ?=
# One process a core, each of one thread: most tests are too small for two.
WORKERS ?= -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
DEMO_ARGS ?=
EVIDENCE_ARGS ?=
# For test-matrix: versions of torch, or newest.
TORCH ?= 2.1 newest

.PHONY: help setup demo demo-seg lint docs test test-fast test-matrix test-frameworks clean distclean evidence

help:
	@echo "make setup          the environment alone, $(VENV) (STACK=openmmlab for the upstream stack)"
	@echo "make demo           set up, train a small detector with FixNorm and with decay, leave a page with pictures"
	@echo "make evidence       run the papers' claims on CIFAR-10 in small, 98 runs, 4 hours on two cores, resumed (EVIDENCE_ARGS=--list)"
	@echo "make demo-seg       train a small OCNet with FixNorm instead, on the same digits"
	@echo "make lint           ruff, the direction of imports, types"
	@echo "make docs           the documentation site, build/site/index.html; a broken link is an error"
	@echo "make test           lint, documentation and all tests (PYTEST_ARGS='tests/optim -x' for a part, WORKERS= in one process)"
	@echo "make test-fast      without lint and the slow tests: two to four minutes on two cores"
	@echo "make test-matrix    the tests of pure torch on the oldest torch and the newest, up to 3 GB each (TORCH='2.1 2.4.1 newest')"
	@echo "make test-frameworks  mmengine's own tests, with this package loaded and without, some two minutes"
	@echo "make clean          remove builds and caches"
	@echo "make distclean      remove the environments as well"
	@echo "PYTHON=python3.12 chooses the interpreter that the environment is made from."

setup:
	@$(PYTHON) tools/setup_env.py --stack $(STACK)

demo: setup
	$(BIN)/python tools/demo.py --baseline $(DEMO_ARGS)

demo-seg: setup
	$(BIN)/python tools/demo.py --segment $(DEMO_ARGS)

evidence: setup
	PYTHONPATH=. $(BIN)/python -m benchmarks.evidence $(EVIDENCE_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "docs: build/site/index.html"

test: lint docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) --durations=40 --durations-min=5 $(PYTEST_ARGS)

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" $(WORKERS) $(PYTEST_ARGS)

test-matrix:
	$(PYTHON) tools/test_matrix.py --torch $(TORCH) --pytest-args="$(WORKERS) $(PYTEST_ARGS)"

test-frameworks: setup
	$(BIN)/python tools/test_frameworks.py --pytest-args="$(PYTEST_ARGS)"

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-openmmlab .setup
