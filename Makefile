# PYTHON is the interpreter that .venv is made with: make PYTHON=python3.12 setup
# ARGS goes to the command of a target: make test ARGS='-k thoughts'
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.stamp
# Tests reach no network, and two workers with one thread each share two cores.
TEST_ENV := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
IS_NEW_ENOUGH := import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	"latentcot needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + \
	". Name a newer one: make PYTHON=python3.12 setup")

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all bench check format clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: $(STAMP) ## make .venv with everything that development needs

quickstart: $(STAMP) ## train and compare four methods on the CPU, and write a report
	$(BIN)/latentcot quickstart $(ARGS)

test: $(STAMP) ## run the fast tests: one of each promise, in a few minutes on two cores
	$(TEST_ENV) $(BIN)/pytest $(PARALLEL) $(ARGS)

test-all: $(STAMP) ## run the slow ones too: all architectures, real processes, faults, browser
	$(TEST_ENV) $(BIN)/pytest -m 'not gpu' $(PARALLEL) $(ARGS)

bench: $(STAMP) ## measure speed on the machine at hand, beside transformers' own cache
	$(BIN)/python benchmarks/speed.py $(ARGS)

check: $(STAMP) ## lint, formatting, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## sort imports, fix what can be fixed, format
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean: ## remove .venv and all caches; runs/ stays
	rm -rf .venv build dist .hypothesis .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(IS_NEW_ENOUGH)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@
