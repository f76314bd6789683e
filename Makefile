# Every target sets up what it needs: Python >= 3.11 and make are enough.  `make` alone lists the targets.
#   PYTHON=python3.12 make test      another interpreter
#   VENV=/somewhere/venv make test   another place for the environment
#   PIP_ARGS="..." make test         more options for pip: an index with CPU builds of torch, a local folder of wheels

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2
DEMO_OUT ?= .demo

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread per worker: the workers already fill the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PC15_ALLOW_CPU_TESTS ?= 1

.PHONY: help demo test lint types golden docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# `python -m venv` keeps what is already in the environment, so that a changed pin reinstalls only what it changes;
# an environment whose interpreter is gone, or is another version than PYTHON's, is made afresh.
$(READY): pyproject.toml configs/constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "error: no '$(PYTHON)' on the PATH; install Python 3.11 or newer, or name one: PYTHON=python3.12 make ..." >&2; \
	    exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: " + sys.executable + " is Python " + sys.version.split()[0] + ", and pc15 needs 3.11 or newer; name another one: PYTHON=python3.12 make ...")'
	@version='import sys; print(sys.version_info[:2])'; \
	if [[ "$$("$(BIN)/python" -c "$$version" 2>/dev/null || true)" != "$$("$(PYTHON)" -c "$$version")" ]]; then \
	    "$(PYTHON)" -m venv --clear "$(VENV)"; \
	fi
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c configs/constraints.txt -e '.[all]'
	@touch "$@"

demo: $(READY) ## code a photograph beside JPEG, then tiles -> labels -> fit -> hooks -> benchmark
	"$(BIN)/python" -m pc15learn demo --out "$(DEMO_OUT)"

# Types are checked while the loops are compiled that the tests begin with: each keeps one core busy for a minute.
test: lint ## everything that CI checks: lint, types, tests
	$(ONE_THREAD) "$(BIN)/pc15" warm --quiet & loops=$$!; \
	"$(BIN)/mypy" || { kill "$$loops"; exit 1; }; \
	wait "$$loops"
	$(ONE_THREAD) "$(BIN)/python" -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(READY) ## ruff: rules and format
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

types: $(READY) ## mypy over both packages
	"$(BIN)/mypy"

golden: $(READY) ## write the golden streams again, after a deliberate change of the format
	$(ONE_THREAD) "$(BIN)/python" -m tests.golden.make

docs: $(READY) ## write docs/format.md again from its docstring, and build the site, notebooks run, in build/site
	"$(BIN)/python" -m tests.format_page
	$(ONE_THREAD) "$(BIN)/python" -m sphinx -b html -W --keep-going --quiet docs build/site

clean: ## remove the environment, caches and demo output; data and checkpoints stay
	rm -rf "$(VENV)" "$(DEMO_OUT)" build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis ./*.egg-info
	find pc15 pc15learn tests -name __pycache__ -type d -prune -exec rm -rf {} +
