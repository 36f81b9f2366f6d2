# The whole developer interface. `make help` prints these lines; continuous integration calls them and nothing else.

PYTHON ?= python3
BIN := .venv/bin
ASYNCAPI := .local/asyncapi/node_modules
AXE := .local/axe/node_modules

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt bench up down status docs lock revision clean

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: .venv/.ready ## Install everything into .venv/ (the other targets do it when needed)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old: Tocsin needs Python 3.11 or newer (make PYTHON=/path/to/python3.11 ...)"; exit 1; }
	@echo "Setting up .venv (about two minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "No venv module in $(PYTHON); on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup ## Run the whole system on real alerts (DEMO_ONCE=1: stop after the summary)
	@$(BIN)/tocsin demo $(if $(DEMO_ONCE),--once)

up: setup ## Start the stack and all services in the background
	@$(BIN)/tocsin up

down: setup ## Stop them; data stays
	@$(BIN)/tocsin down

status: setup ## Say how everything is
	@$(BIN)/tocsin status

test: setup $(ASYNCAPI) $(AXE) ## Run all tests, on a real Kafka, PostgreSQL and InfluxDB
	@$(BIN)/python -m cli.stack
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: setup ## Lint, formatting, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: setup ## Format the code and mend what a tool can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: setup ## Generate docs/reference/ and the Kafka manifests from schemas/
	@$(BIN)/python -m cli.docs
	@$(BIN)/python -m cli.k8s

bench: setup ## Measure against peers and bare operations, side by side
	@$(BIN)/python -m cli.stack
	@$(BIN)/python -m benchmarks

lock: setup ## Resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet --upgrade --all-extras --group dev \
		pyproject.toml --output-file requirements.lock

revision: setup ## Write a migration: make revision SERVICE=gw_listener ID=0002 MESSAGE="What it does"
	@$(BIN)/python -m cli.migrate $(SERVICE) $(ID) "$(MESSAGE)"

clean: ## Remove what is generated; the data of the local stack too
	@rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(ASYNCAPI): tests/contract/asyncapi/package.json
$(AXE): tests/integration/console/package.json
$(ASYNCAPI) $(AXE):
	@mkdir -p $(@D)
	@cp $< $(@D)/
	@if command -v npm >/dev/null; then npm install --prefix $(@D) --no-audit --no-fund --no-package-lock --ignore-scripts --silent && touch $@; \
		else echo "npm is not here: tests that need what $< names will be skipped"; fi
