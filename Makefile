# make demo    a whole cycle, from plan to restore, on a bucket and a database in a temporary folder
# make test    everything that CI runs: lint, types, tests against real servers
# make docs    the site, built strictly into site/
# make simulate N=…   schedules of the simulator, from SEED=… on, in JOBS=… processes (20,000, also part of make test)
# make simulate-mutants   take each guard out and hunt for a schedule that shows it; writes docs/safety-case.md
# The first two set themselves up (Debian or Ubuntu with Python 3.11 and make) or say in one line what is missing.

VENV ?= .venv
PYTEST_ARGS ?= -n auto --dist loadfile
N ?= 20000
SEED ?= 0
JOBS ?= $(shell nproc)

BIN := $(VENV)/bin
PACKAGING := pyproject.toml $(wildcard packages/*/pyproject.toml) scripts/setup

.PHONY: demo test lint types docs unit simulate simulate-mutants bench lock clean help

demo: $(VENV)/.s3gc-demo
	@$(BIN)/s3gc demo

test: lint types docs simulate unit

lint: $(VENV)/.s3gc-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.s3gc-test
	$(BIN)/mypy

docs: $(VENV)/.s3gc-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

unit: $(VENV)/.s3gc-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

simulate: $(VENV)/.s3gc-test
	$(BIN)/python -m s3gc.testing.simulator --schedules $(N) --seed $(SEED) --jobs $(JOBS)

simulate-mutants: $(VENV)/.s3gc-test
	$(BIN)/python -m tests.simulation.mutate --write --jobs $(JOBS)

bench: $(VENV)/.s3gc-test
	$(BIN)/python -m benchmarks

lock: $(VENV)/.s3gc-test
	scripts/lock

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/.s3gc-demo: constraints-demo.txt $(PACKAGING)
	@scripts/setup demo $(VENV)
	@touch $@

$(VENV)/.s3gc-test: constraints.txt $(PACKAGING)
	@scripts/setup test $(VENV)
	@touch $@ $(VENV)/.s3gc-demo

# Only a folder that is a virtual environment is removed.
clean:
	@if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf -- "$(VENV)"; fi
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build site
	find packages tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
