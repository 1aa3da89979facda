# The project's one door. `make` alone lists the targets.
# Needs make, Python 3.11 or newer and pip; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
DEMO := build/demo

# Tests run in several processes, so torch keeps to one thread in each; otherwise they fight over the cores.
TEST_PROCESSES ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --maxprocesses=4

SOURCES := src tests benchmarks scripts examples
# The word list is not met yet by docs/faults.md (it shows messages of src), src and tests/data.
PROSE := README.md CONTRIBUTING.md CHANGELOG.md $(filter-out docs/faults.md,$(wildcard docs/*.md)) benchmarks scripts \
	examples $(filter-out tests/data/,$(wildcard tests/*/)) $(wildcard tests/*.py)

.DEFAULT_GOAL := help
.PHONY: help env env-run check lint test mutants format bench demo clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Make the environment in .venv, with the tools of developers

env-run: $(RUNTIME) ## Make it with only what the demo and training need

# One environment, two stages: what runs, and with the tools of developers, which includes the former. A stamp is
# written last, so an interrupted installation is repeated. A half-made environment has no pip.
define install
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "make: '$(PYTHON)' is missing or older than Python 3.11; name a newer one: make PYTHON=python3.12 env" >&2; \
			exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV) || { \
			echo "make: '$(PYTHON) -m venv' failed; install Python's venv module (Debian, Ubuntu: python3-venv)" >&2; \
			exit 1; }; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '$(1)'
endef

$(RUNTIME): pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(STAMP): pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(RUNTIME) $@

lint: $(STAMP) ## Format, lint, word list and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/python scripts/plain_english.py $(PROSE)
	$(BIN)/mypy

check: lint ## The same and the fast tests
	$(PYTEST) -m "not slow"

test: $(STAMP) ## The whole suite
	$(PYTEST)

format: $(STAMP) ## Rewrite the code as the format check wants it
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

mutants: $(STAMP) ## Plant thirty misreadings, one at a time, and see a test fail for each
	$(BIN)/python scripts/mutation_check.py

bench: $(STAMP) ## Every benchmark, in its quick form
	@set -e; for file in benchmarks/*.py; do \
		case $$file in *'*'*|*/__init__.py) continue;; esac; \
		grep -q '__main__' $$file || continue; \
		echo "== $$file"; $(BIN)/python $$file --quick; done

demo: $(RUNTIME) ## Draw the synthetic people, train, evaluate, write the report
	$(BIN)/pclhd synth --out $(DEMO)/data --scale small
	rm -rf $(DEMO)/run
	$(BIN)/pclhd train synthetic --data $(DEMO)/data --out $(DEMO)/run
	$(BIN)/pclhd evaluate $(DEMO)/run
	$(BIN)/pclhd report $(DEMO)/run

clean: ## Remove the environment and what the demo made
	rm -rf $(VENV) build
