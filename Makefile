# What people type is what CI runs. `make` alone lists it.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PYTHON_IMAGE ?= python3.12

.PHONY: help install train draw test test-fast test-image wheel check format bench docs clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: .venv/installed ## create .venv, with requirements.txt and the command digit-recognizer, for every folder

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@echo "Installing requirements.txt into .venv: some minutes, once" >&2
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . >&2
	@touch $@

train: install ## train on the digits in data/, else on the sample, and write a submission (ARGS="--folds 5")
	@$(BIN)/python -m digit_recognizer train $(ARGS)

draw: install ## write a page to draw digits on, read by the newest run, and open it (ARGS=RUN)
	@$(BIN)/python -m digit_recognizer draw $(ARGS)

test: .venv/tested ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

.venv/tested: .venv/installed requirements-test.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt >&2
	@touch $@

test-fast: .venv/tested ## the tests that train nothing
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-image: .venv-image/installed ## the tests with the versions of a Kaggle notebook, on Python 3.12 (PYTHON_IMAGE=...)
	@.venv-image/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

.venv-image/installed: requirements-image.txt
	@$(PYTHON_IMAGE) -m venv .venv-image
	@echo "Installing requirements-image.txt into .venv-image: some minutes, once" >&2
	@.venv-image/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-image.txt
	@touch $@

wheel: install ## build dist/*.whl, with the sample, to attach to a Kaggle notebook
	@$(BIN)/python -m pip wheel --quiet --no-build-isolation --disable-pip-version-check --no-deps --wheel-dir dist .

check: install ## format, lint, types and shell scripts, as CI checks them
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/shellcheck scripts/*.sh .ci/run

format: install ## put the code into the form that check wants
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: install ## time and score against public notebooks, on the competition's files
	@$(BIN)/python -m scripts.benchmark $(ARGS)

docs: install ## put the generated tables into README.md and docs/
	@$(BIN)/python -m scripts.docs

clean: ## delete .venv and caches; data and submissions stay
	@rm -rf .venv .venv-image .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
