# Soundkeep's front door for people who build it. Every target does its own set-up: on a bare
# Debian machine with Python 3.11, make and a package registry, `make run` is the first command.
# The set-up is done once for each uv.lock; after that nothing here touches the network.

PORT ?= 8000
DATA ?= ./data
TEST_MINUTES ?= 50
TESTS ?= tests
TEST_PROCESSES ?= 2# most tests wait for servers: two at once take little more than half the time

export UV_PROJECT_ENVIRONMENT ?= .venv
export UV_PYTHON_DOWNLOADS = never
export PYTHONUNBUFFERED = 1
export PYTHONDONTWRITEBYTECODE =# hundreds of commands are started: each would be compiled anew

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV = $(UV_PROJECT_ENVIRONMENT)
PYTHON = $(VENV)/bin/python

# A stamp lies inside the environment it speaks of, so deleting the environment deletes the
# stamp; its name holds a hash of what the environment is made from, so changing that does too.
SETUP = uv.lock pyproject.toml scripts/bring-uv scripts/bring-packages
KEY := $(shell { cat $(SETUP); scripts/which-python; } | sha256sum | cut -c1-16)
READY_TO_RUN = $(VENV)/.ready-to-run-$(KEY)
READY_TO_TEST = $(VENV)/.ready-to-test-$(KEY)

SOURCES = src tests benchmarks
BENCHMARKS = delivery intake ledger import_ relay upload_s3 migrate speech

.PHONY: help run test drill bench lint format clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; \
	do printf '  make %-8s %s\n' "$$name" "$$text"; done

run: $(READY_TO_RUN) ## Serve on http://127.0.0.1:8000 (PORT=…, DATA=./data)
	@SOUNDKEEP_DATA="$${SOUNDKEEP_DATA:-$(DATA)}" exec $(VENV)/bin/soundkeep serve --port $(PORT)

test: lint ## Check the form, the types and every promise (TESTS=tests/stores for a part)
	@scripts/bring-nginx
	@scripts/bring-node-sdks
	@timeout --kill-after=30s $(TEST_MINUTES)m $(PYTHON) -m pytest \
		-m "not drill" -o faulthandler_timeout=300 -n $(TEST_PROCESSES) \
		--dist loadfile --no-loadscope-reorder $(TESTS)

drill: $(READY_TO_TEST) ## Run the long forms: hundreds of kills and faults
	@scripts/bring-nginx
	@COLD_STARTS=1 $(PYTHON) -m pytest -m drill -o faulthandler_timeout=1800 $(TESTS)

bench: $(READY_TO_TEST) ## Measure against nginx and others: seven rounds each, with gates
	@scripts/bring-nginx
	@missed=; for name in $(BENCHMARKS); do \
		$(PYTHON) benchmarks/$$name.py || missed="$$missed $$name"; \
	done; [ -z "$$missed" ] || { echo "make bench: not reached by$$missed" >&2; exit 1; }

lint: $(READY_TO_TEST) ## Check the form and the types
	@$(VENV)/bin/ruff format --check --quiet $(SOURCES) || { \
		echo "make lint: the files above are not formatted; run make format" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet $(SOURCES)
	@$(VENV)/bin/mypy --no-error-summary

format: $(READY_TO_TEST) ## Put the source into its form
	@$(VENV)/bin/ruff check --quiet --fix-only $(SOURCES)
	@$(VENV)/bin/ruff format $(SOURCES)

clean: ## Remove what was built; never your data
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY_TO_RUN):
	@scripts/bring-packages --no-dev
	@touch $@

$(READY_TO_TEST):
	@scripts/bring-packages
	@touch $(READY_TO_RUN) $@
