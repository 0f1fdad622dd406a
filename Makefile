# Every target does its own set-up: a virtual environment in .venv with dependencies as in pyproject.toml.
PYTHON ?= python3
VENV   ?= .venv
# Any build of torch will do; choose another with `make TORCH=...` before the first run.
TORCH  ?= torch==2.13.0
ARGS   ?=
# Versions that the tests have passed with. `make CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

PIP_INSTALL = $(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

BIN := $(VENV)/bin

.PHONY: help demo test test-slow test-long newest bench lint format docs wheel smoke audit clean

help:
	@echo "make demo       simulated chambers, faults and all, on this machine (ARGS=\"--duration 120\" passes options on)"
	@echo "make test       the test suite, about five minutes (COVERAGE=1 measures what it runs through)"
	@echo "make test-slow  tests of programs together, of faults, of pages and of statistics, about ten minutes more"
	@echo "make test-long  the statistical studies too, an hour or more"
	@echo "make newest     the test suite with the newest versions of everything, in an environment of its own"
	@echo "make bench      benchmarks, ten minutes; writes the tables of docs/performance.md (ARGS=\"-k window --seconds 1\")"
	@echo "make lint       style, types and import contracts"
	@echo "make format     put the sources in house style"
	@echo "make docs       the documents as a site, in docs/_build/index.html; a warning is an error"
	@echo "make wheel      the wheel and the source distribution, in dist"
	@echo "make smoke      a collector host and a monitor with that wheel, in environments of their own, a minute"
	@echo "make audit      known weaknesses of the versions in constraints.txt (it asks PyPI)"
	@echo "make clean      remove the virtual environment and caches"

demo: $(VENV)/.runtime
	$(BIN)/dqm demo $(ARGS)

test: TESTS = not slow and not long
test-slow: TESTS = slow and not long
test-slow: COVERED = --cov-append

# Tests start many processes, each of which would compile the sources again.
test test-slow: export PYTHONDONTWRITEBYTECODE =
# A test that hangs ends the run after five minutes, with its name and where each of its threads stands.
test test-slow: $(VENV)/.develop
	$(BIN)/pytest -m "$(TESTS)" --numprocesses auto --maxprocesses 4 --max-worker-restart 0 \
	  -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true \
	  $(if $(COVERAGE),--cov --cov-report= $(COVERED)) $(ARGS)

test-long: $(VENV)/.long
	$(BIN)/pytest $(ARGS)

newest:
	$(MAKE) VENV=.venv-newest CONSTRAINTS= test test-slow

bench: $(VENV)/.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 0 tests/benchmarks -o python_files="bench_*.py" -W default -v \
	  --benchmark-quiet --benchmark-json=.benchmarks.json $(ARGS)
	$(BIN)/python -m tests.benchmarks.report .benchmarks.json docs/performance.md

lint: $(VENV)/.develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find dqm collectors -name '*.py' | xargs wc -l | \
	  awk '$$2 != "total" && $$1 > 500 {print "warning: " $$2 " has " $$1 " lines: is it one concept?"}'

format: $(VENV)/.develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going --jobs auto --quiet -c docs . docs/_build
	@echo "see docs/_build/index.html"

wheel: $(VENV)/.audit
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m tests.runtime_requirements | $(BIN)/cyclonedx-py requirements - --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/dqm.cdx.json

smoke: wheel
	$(BIN)/python tests/smoke.py dist/*.whl

audit: $(VENV)/.audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) .venv-newest dist docs/_build .coverage .coverage.* .benchmarks.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dqm needs Python 3.11 or newer; $(PYTHON) is older. Use make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.runtime: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet "$(TORCH)"
	$(PIP_INSTALL) --editable ".[monitor]"
	touch $@

$(VENV)/.develop: $(VENV)/.runtime
	$(PIP_INSTALL) --editable ".[monitor,test,lint,plots]"
	touch $@

$(VENV)/.audit: $(VENV)/.develop
	$(PIP_INSTALL) --editable ".[monitor,audit]"
	touch $@

$(VENV)/.docs: $(VENV)/.develop
	$(PIP_INSTALL) --editable ".[monitor,plots,docs]"
	touch $@

$(VENV)/.long: $(VENV)/.develop
	$(PIP_INSTALL) --editable ".[monitor,fuzz]" || echo "no atheris for this Python: its tests are skipped"
	touch $@

$(VENV)/.bench: $(VENV)/.develop
	$(PIP_INSTALL) --editable ".[monitor,bench]"
	touch $@
