# All development commands. `make` without a target lists the targets.
# It needs make, Python 3.11 or newer and pip; everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
DEMO := build/demo
# A comma in the argument of a call would end it.
comma := ,

# Tests run in several processes, so torch uses one thread in each; more threads would compete for the cores.
TEST_PROCESSES ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --maxprocesses=4 --dist worksteal

SOURCES := src tests benchmarks scripts examples
PROSE := $(wildcard *.md docs/*.md .github/*.md) $(SOURCES)

.DEFAULT_GOAL := help
.PHONY: help env env-run check lint test mutants fuzz format bench demo docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Make the environment in .venv, with the tools of developers

env-run: $(RUNTIME) ## Make the environment with only what the demo and training need

# One environment in two stages: the runtime, then the tools of developers in addition. The stamp is written last, so
# an interrupted installation is repeated. An incomplete environment has no pip.
define install
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "make: '$(PYTHON)' is missing or older than Python 3.11; name a newer one: make PYTHON=python3.12 env" >&2; \
			exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV) || { \
			echo "make: '$(PYTHON) -m venv' failed; install Python's venv module (Debian, Ubuntu: python3-venv)" >&2; \
			exit 1; }; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e '$(1)'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # pip would compile in one process
endef

$(RUNTIME): pyproject.toml constraints.txt
	$(call install,.[plots$(comma)serve])
	@touch $@

$(STAMP): pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(RUNTIME) $@

lint: $(STAMP) ## Check format, lint rules, word list and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/python scripts/plain_english.py $(PROSE)
	$(BIN)/mypy

check: lint ## Lint, then run the fast tests
	$(PYTEST) -m "not slow"

test: $(STAMP) ## Run all tests
	$(PYTEST)

format: $(STAMP) ## Format the code and fix lint errors
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

mutants: $(STAMP) ## Insert thirty bugs, one at a time, and check that a test fails for each
	$(BIN)/python scripts/mutation_check.py

fuzz: $(STAMP) ## Damage INPUTS inputs (2000 unless given) over all verbs, from SEED, and look at what happens
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),2000) --seed $(or $(SEED),0)

bench: $(STAMP) ## Run all benchmarks in their quick form
	@set -e; for file in benchmarks/*.py; do \
		case $$file in *'*'*|*/__init__.py) continue;; esac; \
		grep -q '__main__' $$file || continue; \
		echo "== $$file"; $(BIN)/python $$file --quick; done

# Fewer epochs than the preset, so that it takes about six minutes on two cores, and an average over fewer steps. The data
# are drawn again, as those of an earlier version may lie there.
demo: $(RUNTIME) ## Draw synthetic people, train, evaluate, write the report, fill a gallery
	rm -rf $(DEMO)/data $(DEMO)/run $(DEMO)/gallery
	$(BIN)/pclhd synth --out $(DEMO)/data --scale small
	$(BIN)/pclhd train synthetic --data $(DEMO)/data --out $(DEMO)/run schedule.stage1_epochs=3 schedule.stage2_epochs=5 \
		schedule.ema_decay=auto
	$(BIN)/pclhd evaluate $(DEMO)/run
	$(BIN)/pclhd report $(DEMO)/run
	$(BIN)/python scripts/demo_gallery.py $(DEMO)/data $(DEMO)/gallery.csv
	$(BIN)/pclhd gallery add $(DEMO)/gallery $(DEMO)/gallery.csv --model $(DEMO)/run
	@echo "an image to search with: $(DEMO)/data/cam6/0322/0001.jpg"
	@echo "search these people in a browser: $(BIN)/pclhd serve $(DEMO)/gallery"

docs: $(STAMP) ## Build the site into build/site
	$(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html, or: $(BIN)/python -m http.server -d build/site"

clean: ## Remove the environment and the output of the demo
	rm -rf $(VENV) build
