# Every target sets up what it needs: a Python of at least 3.11 and a package index are enough.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers
MODULES := examples/javascript/node_modules/.package-lock.json
NATS_COMMAND := .tools/nats-v0.5.0
# The first Python that is new enough; `make PYTHON=/path/to/python …` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help install demo up test coverage check bench sim chaos tools lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## the locked dependencies and Crank itself, into .venv

$(INSTALLED): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Crank needs Python 3.11 or newer; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Installing what is locked into $(VENV), this once; it takes about half a minute …"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What only the benchmark needs: a peer to compare with, and something to draw with.
$(PEERS): requirements-bench.lock $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

demo: $(INSTALLED)  ## start everything, send real requests, show the decisions, stop
	@$(BIN)/crank demo

up: $(INSTALLED)  ## a NATS server, a controller and workers, until Ctrl-C
	@$(BIN)/crank up

# Files of a few long tests go out as they come: the largest first, as is usual, would leave these to the end.
test: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

coverage: $(INSTALLED)  ## what the core's own tests reach of its branches
	$(BIN)/python -m pytest -n 2 tests/core tests/subjects --cov --cov-branch --cov-report=term-missing

check: $(INSTALLED)  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(PEERS)  ## what a request costs, beside a direct one and other routers
	@mkdir -p bench/results
	$(BIN)/python -m bench --json bench/results/bench.json --measured bench/results/measured.json --png bench/results/bench.png
	$(BIN)/python -m bench.objectives --json bench/results/objectives.json --png bench/results/objectives.png
	$(BIN)/python -m bench.selection
	$(BIN)/python -m bench.recovery

REQUESTS ?= 100000
SEED ?= 1
sim: $(INSTALLED)  ## the core in a world of faults: make sim REQUESTS=100000 SEED=1
	$(BIN)/python -m simulation --requests $(REQUESTS) --seed $(SEED)
	$(BIN)/python -m simulation.scenarios --seed $(SEED)

SECONDS ?= 60
RATE ?= 500
chaos: $(INSTALLED)  ## real processes, killed and frozen under load: make chaos SEED=1
	$(BIN)/python -m chaos --seconds $(SECONDS) --rate $(RATE) --seed $(SEED)

# Each where there is something to get it with; the tests that need it say so where it is missing.
tools: $(if $(shell command -v npm 2>&1),$(MODULES)) $(if $(shell command -v go 2>&1),$(NATS_COMMAND))  ## Node's modules and the nats command, for tests

$(MODULES): examples/javascript/package-lock.json
	npm ci --prefix examples/javascript --silent
	@touch $@

$(NATS_COMMAND):
	@echo "Building the nats command, this once; it takes about a minute …"
	GOBIN=$(CURDIR)/.tools/bin go install github.com/nats-io/natscli/nats@$(lastword $(subst -, ,$@))
	@touch $@

# One resolution for every platform; the index it came from is no part of it.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate pyproject.toml

lock: $(INSTALLED)  ## resolve the dependencies anew
	$(COMPILE) --upgrade -o requirements.lock
	$(COMPILE) --upgrade --constraints requirements.lock --group dev -o requirements-dev.lock
	$(COMPILE) --upgrade --constraints requirements-dev.lock --group bench -o requirements-bench.lock

clean:  ## remove what the targets above made, but not .crank
	rm -rf $(VENV) .tools examples/javascript/node_modules dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage bench/results simulation-*.json
