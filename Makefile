# `make test` and `make demo` need git, make and python3 with venv; everything else comes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CHATKIT ?=
READY := $(VENV)/.ready

.PHONY: help demo test test-oldest test-pythons cover lint format types docs build check clean
.DEFAULT_GOAL := help

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --constraint constraints.txt --group dev --editable '.[otel,testing]'
	$(if $(CHATKIT),$(BIN)/python -m pip install -q 'openai-chatkit==$(CHATKIT)')
	@touch $@

demo: $(READY) ## play the three-call Merak conversation in the terminal
	@$(BIN)/python -m examples.merak_search

test: $(READY) ## run the whole suite
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report
