# `make` alone lists what there is. Variables: PORT (of the local stack), EMULATOR, PYTHON, PICTURES.

PYTHON ?= python3
PORT ?=
EMULATOR ?= ministack
PICTURES ?=

export PORT
STACK = $(PYTHON) localstack/stack.py
# Each kind of test has a stack of its own on a free port.
WITH = PORT=0 $(STACK) with --emulator $(EMULATOR) --no-build

.DEFAULT_GOAL := help
.PHONY: help up down logs demo test check unit build e2e console-test

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## build the functions and run the stack on this machine; again: deploy what has changed
	@$(STACK) up --emulator $(EMULATOR)

down: ## stop the stack; its data is gone
	@$(STACK) down

logs: ## follow the logs of all functions
	@$(STACK) logs

demo: ## run the stack, place an order and watch it through to the mail
	@$(STACK) demo --emulator $(EMULATOR)

test: check unit e2e ## everything: format, lints, all tests, each stack brought and taken away

check: ## format and lints, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

unit: build ## what needs no stack: unit, property and contract tests
	cargo test

build: ## the one dev build that tests and local functions share
	cargo test --workspace --no-run --quiet
	cargo build --workspace --bins --quiet

e2e: build ## the end-to-end tests and the demo, against stacks of their own
	$(WITH) --state .local/test/shared --mail-mode ses -- \
	  cargo test --workspace --test e2e -- --test-threads=8
	$(WITH) --state .local/test/alone --mail-mode ses -- \
	  cargo test --workspace --test alone -- --test-threads=1
	$(WITH) --state .local/test/cli --mail-mode ses --param RetrySchedule=1,1,2 -- \
	  cargo test --workspace --test cli -- --test-threads=1
	$(WITH) --state .local/test/demo -- \
	  $(STACK) demo --state .local/test/demo --no-build

# Not a part of `test`, which needs no browser; CI calls it.
console-test: build ## the operator's page in a real browser (/usr/bin/chromium); PICTURES=docs takes its screenshots anew
	$(WITH) --state .local/test/console --mail-mode ses --param RetrySchedule=1,1,2 -- \
	  $(if $(PICTURES),env ORDERFLOW_PICTURES=$(abspath $(PICTURES))) cargo test --workspace --test console -- --test-threads=1
