# Every target does its own set-up: each works as the first command ever typed in a fresh clone.
# PYTHON names the interpreter of the environment (3.11 to 3.13): make test PYTHON=python3.12
# ARGS goes to the command of the target:                        make test ARGS="-k bound"
# TESTS chooses what pytest collects:                            make quick TESTS=tests/infer/test_objective.py

PYTHON ?= python3
ARGS ?=
TESTS ?= tests pyro_mnar pyro_mnar.models pyro_mnar.guides

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STAGED := build/typed
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# Two workers, one thread each: torch would otherwise start a thread per core in each of them.
# Doctests are found by import name (--pyargs), since models/ and guides/ are not named as they are imported.
PYTEST = OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/pytest --quiet --numprocesses 2 --dist worksteal \
	--doctest-modules --pyargs $(TESTS)

# Bytecode of what is imported is written as it is imported, whatever the environment says: of all that is installed, pip
# would take as long as it takes to install it.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test quick coverage bench lint format types notebooks check-notebooks wheel-check docs bad-inputs mutants fuzz soak clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## the environment: .venv, with the versions of constraints.txt

# setuptools goes first, so that the project's own build needs no environment of its own.
$(INSTALLED): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed: set PYTHON=python3.11")'
	@echo "setting up $(VENV) (a few minutes, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-compile --constraint constraints.txt setuptools
	@$(PIP) install --no-compile --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## GINA and its rivals on a table with values missing not at random
	@$(BIN)/pyro-mnar demo $(ARGS)

test: $(INSTALLED)  ## all tests, the slow statistical ones too, and annotated shapes and types
	@THOROUGH=1 $(PYTEST) $(ARGS)

quick: $(INSTALLED)  ## the tests that are not slow
	@$(PYTEST) -m "not slow" $(ARGS)

coverage: $(INSTALLED)  ## all tests, with the lines that none of them reached
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered $(ARGS)

bench: $(INSTALLED)  ## speed and memory, measured side by side; ARGS="imputation growth" for some of it
	@MPLBACKEND=Agg $(BIN)/python benchmarks/run.py $(ARGS)

lint: $(INSTALLED)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED)  ## let ruff sort imports, mend what it can and lay out the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# build/lib is removed too: setuptools would copy from it files that the sources no longer have.
types: $(INSTALLED)  ## pyright, on a staged copy that has models/ and guides/ in their places
	@rm -rf build/lib build/bdist.* $(STAGED)
	@$(PIP) install --no-deps --no-build-isolation --target $(STAGED) .
	@$(BIN)/pyright $(ARGS)

notebooks: $(INSTALLED)  ## notebooks/*.ipynb anew from notebooks/*.py, executed
	@$(BIN)/python .ci/notebooks.py make $(ARGS)

check-notebooks: $(INSTALLED)  ## do the pairs agree? do the sources run (with SMOKE=1)?
	@$(BIN)/python .ci/notebooks.py check $(ARGS)

wheel-check: $(INSTALLED)  ## build sdist and wheel, import every module outside the checkout
	@$(BIN)/python .ci/wheel_check.py

docs: $(INSTALLED)  ## the documentation site, into build/html; a warning is an error
	@$(BIN)/python .ci/site.py

bad-inputs: $(INSTALLED)  ## docs/bad_input.md anew, from the cases of tests/bad_inputs
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m bad_inputs.page 2>/dev/null

mutants: $(INSTALLED)  ## break the sources in named ways; each has to be noticed (an hour; ARGS="pooling" for some)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(ARGS)

fuzz: $(INSTALLED)  ## input made at random for an hour; finds nothing new (ARGS="--minutes 5 frames csv" for less)
	@cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m fuzz.run $(ARGS)

soak: $(INSTALLED)  ## fit, save, load and impute for two hours; nothing may grow (ARGS=10 for ten minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py $(ARGS)

clean:  ## remove what the other targets made, except .venv
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf $(VENV)
