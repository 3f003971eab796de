# `make quickstart`, `make speech` and `make test` do all the set-up on a fresh machine. They need
# Python 3.11, a C compiler and make; the data of the first two also apt and the network.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SCALE ?= default
PACKAGE := $(shell find fairseq_pdd -name '*.py')

.PHONY: help quickstart speech images gradient-analysis synthetic bench test test-compat lint format clean chromium

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

quickstart: .venv/.package ## distil a real translation ensemble (SCALE=small|default|large)
	SCALE=$(SCALE) bash examples/quickstart/run.sh

gradient-analysis: .venv/.package ## the paper's Figure 1: which classes a loss attends to, by their number
	$(BIN)/python examples/gradient_analysis/gradient_ratio.py

synthetic: .venv/.package ## an ensemble's and its students' uncertainty over the plane
	$(BIN)/python examples/synthetic/spirals.py

speech: .venv/.package ## distil recognisers of synthetic voices (SCALE=default|large)
	SCALE=$(SCALE) bash examples/speech_quickstart/run.sh

images: .venv/.package ## classifiers in plain PyTorch: tables 1 and 2, figure 3, a sweep over classes
	bash examples/image_classification/run.sh

bench: .venv/.package ## measure what it costs; writes benchmarks/RESULTS.md and cost.png
	$(BIN)/python benchmarks/run.py

test: .venv/.package chromium ## run the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-compat: .venv/.package chromium ## run jobs and tests with other Pythons and fairseqs (ENVIRONMENTS="official-3.10 …")
	$(BIN)/python -m tests.compat.run $(ENVIRONMENTS)

lint: .venv/.package ## ruff (lint and format), mypy and the wording rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/check_words.py

format: .venv/.package ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tests open fairseq-pdd's report in a browser.
chromium:
	@command -v chromium > /dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && echo "installing chromium" && \
	  apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium > /dev/null; \
	} || { echo "error: the tests of the report need Chromium: as root, apt-get install chromium" >&2; exit 1; }

clean: ## remove what was built, but not the results in examples/*/runs
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache

.venv/.python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: $(or $(PYTHON),python3) is not Python 3.11; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	touch $@

.venv/.dependencies: .venv/.python constraints.txt setup.py fairseq_pdd/_requirements.py
	@echo "installing torch, fairseq and the rest; about 6 GB, some minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[dev,all]"
	touch $@

# A regular install, as users have it: `--user-dir fairseq_pdd` then resolves from any folder.
.venv/.package: .venv/.dependencies $(PACKAGE) README.md
	rm -rf build *.egg-info
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	rm -rf build *.egg-info
	touch $@
