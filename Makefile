# git, make and a python3 (3.10 or later) with venv are enough: everything else comes into .venv.
PYTHON ?= python3
VENV ?= .venv
CHATKIT ?= 1.6.5
OLDEST_CHATKIT := 1.4.1
# every release that is supported, and tried by `make test-chatkits`
CHATKITS := 1.4.1 1.4.2 1.5.0 1.5.1 1.5.2 1.5.3 1.6.0 1.6.1 1.6.2 1.6.3 1.6.4 1.6.5
# openai-agents, and the openai of its time: the lowest, the newest, and those between which the SDK has changed how it
# asks whether a tool needs approval, tried by `make test-sdks`
SDKS := 0.8.0:2.19.0 0.8.4:2.19.0 0.14.8:2.33.0 0.20.0:2.54.0 0.24.0:3.51.0
# what pip may install; `make test-floors` allows the lowest versions only
PINS ?= constraints.txt
FLOORS := build/floors.txt
PYTHONS := 3.10 3.11 3.12 3.13 3.14
THIS_PYTHON = $(shell $(PYTHON) -c 'import sys; print("{}.{}".format(*sys.version_info))')

BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(CHATKIT)
DEMO := $(VENV)/.demo-$(CHATKIT)
CHROMIUM_HERE := $(VENV)/chromium/chromium
# a class, a module or a page is run by one process: what it sets up is set up once
PARALLEL ?= -n logical --maxprocesses=4 --dist=loadscope --no-loadscope-reorder
SHORT := -m 'not long'
# what Python has compiled is kept, also where it is told to keep nothing: that is a quarter of a minute
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PORT ?= 8000
WORKERS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo react screenshots test test-all chromium test-oldest test-floors test-chatkits test-sdks test-pythons suite test-long with-floors each-sdk explore load mutants bench lint format types docs docs-serve docs-test api build release-check clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1@\2/' | tr '@' '\t' | expand -t 22

# the environment, made once and again when what it is made from has changed
define new_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
endef
INSTALL := $(BIN)/python -m pip install --quiet --constraint $(PINS) --build-constraint $(PINS)

$(READY): pyproject.toml $(PINS)
	$(new_environment)
	$(INSTALL) --group dev --editable '.[otel,postgres,sql,testing]' 'openai-chatkit==$(CHATKIT)'
	@touch $@

# a part of it, if there is none yet: `make test` makes all of it
$(DEMO): pyproject.toml $(PINS)
	@echo "Installing what the demos need into $(VENV): a minute, the first time."
	$(new_environment)
	$(INSTALL) --group demo --editable '.[postgres,sql]' 'openai-chatkit==$(CHATKIT)'
	@touch $@

screenshots: $(READY) $(CHROMIUM_HERE) ## make the pictures of README, docs and the front page, from the running demos
	$(BIN)/python -m tools.screenshots

react: $(READY) ## check the types of the React page of Merak, and build it (from npm)
	@$(BIN)/python -m tools.react

demo: $(if $(wildcard $(READY)),$(READY),$(DEMO)) ## serve all demos at http://127.0.0.1:8000 (PORT=..., WORKERS=...)
	@exec $(BIN)/python -m examples --port $(PORT) --workers $(WORKERS)

test: $(READY) ## run the suite without its long tests, with branch coverage: two minutes
	$(PYTEST) $(PARALLEL) $(SHORT) --cov

# what is tried elsewhere is not tried again: the oldest ChatKit and SDK by the lowest versions, the newest by `make test`
test-all: ## run all tests, then many of them with every ChatKit, several SDKs, the lowest versions and every Python that is here
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-long
	@$(MAKE) --no-print-directory $(if $(filter 3.10 3.11,$(THIS_PYTHON)),test-floors,test-oldest)
	@$(MAKE) --no-print-directory test-chatkits CHATKITS='$(filter-out $(OLDEST_CHATKIT) $(CHATKIT),$(CHATKITS))'
	@$(MAKE) --no-print-directory test-sdks SDKS='$(filter-out $(firstword $(SDKS)) $(lastword $(SDKS)),$(SDKS))'
	@$(MAKE) --no-print-directory test-pythons PYTHONS='$(filter-out $(THIS_PYTHON),$(PYTHONS))'

test-long: $(READY) $(CHROMIUM_HERE) ## run the long tests, which `make test` leaves out
	$(PYTEST) $(PARALLEL) -m long

chromium: $(CHROMIUM_HERE) ## install a Chromium for the browser tests into the environment (for Linux on x86-64)

$(CHROMIUM_HERE): tools/chromium.py | $(READY)
	@$(BIN)/python -m tools.chromium

explore: $(READY) ## explore every crash and every interleaving of many scenarios (EXPLORE=--quick: of few)
	$(BIN)/python -m tests.exploration $(EXPLORE)

load: $(READY) ## hold many conversations at once on two workers, on SQLite and on PostgreSQL (LOAD="--only sqlite")
	$(BIN)/python -m tests.load $(LOAD)

mutants: $(READY) ## change the code in one place at a time, and see which changes no test notices (MODULES="store ...")
	$(INSTALL) --group mutants
	$(BIN)/python -m tools.mutants $(MODULES)

suite: $(READY)
	$(PYTEST) $(PARALLEL) $(TESTS)

# without what hardly depends on it: pages, types, the checks of stores, and the long searches for a crossing of requests
SUBSET = tests docs README.md $(addprefix --ignore=tests/,contract exploration load processes frontend site test_api.py test_bench.py test_package_page.py test_typescript.py)
# what a server meets of ChatKit: requests, streams, items and the converter; the rest does not know the release
MEETS = $(addprefix tests/,fake_browser server/test_requests.py server/test_resume.py server/test_classes.py \
	test_converter.py test_messages.py test_runs.py test_versions.py waiting/test_ask.py waiting/test_history.py)

test-oldest: ## run the suite without its long tests with the oldest ChatKit (test-floors is that, and the lowest of all else)
	@$(MAKE) --no-print-directory suite VENV=.venv-oldest CHATKIT=$(OLDEST_CHATKIT) TESTS="$(SHORT) $(SUBSET)"

test-floors: ## run the suite without its long tests with the lowest version of every dependency (Python 3.10 or 3.11)
	@$(MAKE) --no-print-directory with-floors VENV=.venv-floors CHATKIT=$(OLDEST_CHATKIT) PINS=$(FLOORS)

with-floors: $(READY)
	@$(BIN)/python -m tools.scripted_model
	$(PYTEST) $(PARALLEL) $(SHORT) $(SUBSET)

$(FLOORS): pyproject.toml tools/floors.py
	@mkdir -p $(@D)
	$(PYTHON) -m tools.floors > $@

test-chatkits: $(READY) ## run what meets ChatKit with every release that is supported, one line for each (CHATKITS="1.5.3 ...": with some)
	@$(BIN)/python -m tools.each_chatkit $(CHATKITS) -- $(SHORT) $(MEETS)

test-sdks: ## run the tests of waiting tools with openai-agents of several ages (SDKS="0.14.8:2.33.0 ...": with some)
	@$(MAKE) --no-print-directory each-sdk VENV=.venv-sdks

each-sdk: $(READY)
	@$(BIN)/python -m tools.each_sdk $(SDKS) -- $(PARALLEL) $(SHORT) tests/waiting tests/test_versions.py

test-pythons: ## run the suite without its long tests on every Python that is here
	@TESTS="$(SHORT) $(SUBSET)" sh tools/each_python.sh $(PYTHONS)

bench: $(READY) ## measure everything in docs/speed.md, side by side with what people would use instead: five minutes
	$(INSTALL) --group bench
	$(BIN)/python -m tools.bench

lint: $(READY) ## check the code's rules and its format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## fix what can be fixed of both
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## check the types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright

docs: $(READY) ## build the site into build/site/html, with the reference; a link that leads nowhere is an error
	$(BIN)/python -m tools.lifecycle_diagram
	$(BIN)/python -m tools.trace_picture
	$(BIN)/python -m tools.site

docs-serve: $(READY) ## build the site, show it at http://127.0.0.1:8000 (PORT=...), and build again when a page has changed
	@exec $(BIN)/python -m tools.site serve $(PORT)

docs-test: $(READY) ## run every fence of README and docs
	$(PYTEST) -q README.md docs tests/test_docs.py

api: $(READY) ## accept a change of the public names: write tests/api.txt, and show what has changed
	@$(BIN)/python -m tools.api

build: $(READY) ## build wheel and sdist, and try the wheel in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m tools.check_dist

release-check: $(READY) ## build twice, test the installed wheel, list licences and vulnerabilities; nothing is published
	$(INSTALL) --group release
	$(BIN)/python -m tools.release

clean: ## remove what was made
	rm -rf .venv .venv-* dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
