# `make` alone lists what there is. Variables: PORT (of the local stack), EMULATOR, PYTHON.

PYTHON ?= python3
PORT ?=
EMULATOR ?= ministack

export PORT
STACK = $(PYTHON) localstack/stack.py

.DEFAULT_GOAL := help
.PHONY: help up down logs demo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## build the functions and run the stack on this machine; again: deploy what has changed
	@$(STACK) up --emulator $(EMULATOR)

down: ## stop the stack; its data is gone
	@$(STACK) down

logs: ## follow the logs of all functions
	@$(STACK) logs

demo: ## run the stack, place an order and watch it through to the mail
	@$(STACK) demo --emulator $(EMULATOR)
