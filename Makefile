# Everything runs from a clean clone with Python >= 3.11, pip, make and git; nothing is installed outside the clone
# and its caches. `make help` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
RUN := $(BIN)/python -m itsm_portal.embedded run
RESET ?=
SEED ?=
EXAMPLES ?=
MINUTES ?=
AGENTS ?=
EXIT ?=
VM ?=
NAME ?= rollout
# Folders without texts that people see.
NO_TEXTS := node_modules .venv .tools .data static staticfiles tests benchmarks docs
# What the pages need that is not in git.
PARTS := static/vendor/.stamp locale/.stamp
export UV_LINK_MODE ?= copy
# What Python has compiled is kept, also where the shell forbids it: each process would compile Django anew.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/.tools/pycache

.PHONY: help demo run machines test test-all test-long test-machines sequences check bench drill drill-model prove lock texts screenshots clean migrations

help: ## Lists the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Set-up: each stamp is renewed when its lock file changes -------------------------------------------------------
.tools/bin/uv:
	@echo "Setting up: uv"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
		--root-user-action=ignore --target .tools uv

.venv/runtime.stamp: requirements.txt requirements/embedded.txt | .tools/bin/uv
	@echo "Setting up: Python packages"
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt -r requirements/embedded.txt
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/runtime.stamp
	@echo "Setting up: test and lint packages"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

.venv/libvirt.stamp: requirements/libvirt.txt .venv/runtime.stamp
	@echo "Setting up: libvirt's binding"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/libvirt.txt
	@touch $@

static/vendor/.stamp: package.json package-lock.json frontend/icons.txt frontend/build.py .venv/runtime.stamp
	@echo "Setting up: front-end parts"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python frontend/build.py
	@touch $@

locale/.stamp: locale/compile.py $(wildcard locale/*/LC_MESSAGES/*.po) .venv/runtime.stamp
	@$(BIN)/python locale/compile.py
	@touch $@

# --- Use ------------------------------------------------------------------------------------------------------------
demo: .venv/runtime.stamp $(PARTS) ## Plays the whole story with real agents (RESET=1 renews, EXIT=1 verifies and ends, VM=1 tests on virtual machines)
	@$(if $(VM),pkg-config --exists libvirt 2>/dev/null && $(MAKE) --no-print-directory machines || true)
	@PORTAL_PROFILE=demo $(BIN)/python -m itsm_portal.demo $(if $(RESET),--reset) $(if $(EXIT),--exit) $(if $(VM),--vm)

run: .venv/runtime.stamp $(PARTS) ## The portal for daily development, on http://127.0.0.1:8000
	@PORTAL_PROFILE=development $(BIN)/python -m itsm_portal.demo --only-portal

machines: .venv/libvirt.stamp ## What virtual test environments need beside Debian's packages: libvirt's binding for Python

test: .venv/dev.stamp $(PARTS) ## All fast tests, in parallel, against real servers
	@PORTAL_PROFILE=test DATA_DIR=.data/test $(RUN) --fast --data .data/test -- \
		$(BIN)/python -m pytest -q -n 2 --dist load -m "not slow and not browser" $(ARGS)

test-all: test-long test-machines sequences ## All that `make test` leaves out, but the proofs and the drill

test-long: .venv/dev.stamp $(PARTS) ## The longer suites: kill tests, browser, load
	@PORTAL_PROFILE=test DATA_DIR=.data/test $(RUN) --fast --data .data/test -- \
		$(BIN)/python -m pytest -q -m "(slow or browser) and not proof" --ignore tests/hypervisor --timeout 600 $(ARGS)

test-machines: .venv/dev.stamp $(PARTS) ## Test environments on real virtual machines (needs `make machines`, QEMU, libvirt, root)
	@PORTAL_PROFILE=test DATA_DIR=.data/machines $(RUN) --fast --data .data/machines -- \
		$(BIN)/python -m pytest -q -m "slow and not proof" -o cache_dir=.data/machines/cache --timeout 900 \
		$(ARGS) tests/hypervisor

check: .venv/dev.stamp $(PARTS) ## Style, types, layers, migrations, templates, deployment settings
	@sh checks.sh

bench: .venv/dev.stamp $(PARTS) ## Benchmarks: make bench NAME=rollout, engine, plan, poll, cycle, herd, pages, helpdesk or profiling
	@PORTAL_PROFILE=test DATA_DIR=.data/bench $(RUN) --data .data/bench -- $(BIN)/python -m benchmarks.$(NAME) $(ARGS)

sequences: .venv/dev.stamp $(PARTS) ## 2,000 sequences of anything against the engine, in parallel (SEED=, EXAMPLES=)
	@seed=$(or $(SEED),$$(date +%s)); echo "$(or $(EXAMPLES),2000) sequences, SEED=$$seed"; \
		PORTAL_PROFILE=test DATA_DIR=.data/sequences SEED=$$seed EXAMPLES=$(EXAMPLES) $(RUN) --fast --data .data/sequences -- \
		$(BIN)/python -m pytest -q -n 2 --dist load -o cache_dir=.data/sequences/cache tests/releases/test_any_sequence.py -k test_many_sequences

drill-model: ## 20,000 sequences (SEED=, EXAMPLES=)
	@$(MAKE) --no-print-directory sequences EXAMPLES=$(or $(EXAMPLES),20000)

prove: .venv/dev.stamp ## The long proofs: every failpoint, every planted fault, every page as each role
	@PORTAL_PROFILE=test DATA_DIR=.data/drill $(RUN) --fast --data .data/drill -- \
		$(BIN)/python -m pytest -q -m proof -k "not test_many_sequences" --timeout 3600 $(ARGS)

drill: .venv/dev.stamp ## Four rollouts to a simulated fleet while everything fails (SEED=, MINUTES=15, AGENTS=1000)
	@PORTAL_PROFILE=test DATA_DIR=.data/drill DRILL_OWNS_DATABASE=1 SEED=$(SEED) MINUTES=$(MINUTES) AGENTS=$(AGENTS) \
		$(RUN) --data .data/drill -- $(BIN)/python -m tests.drill

migrations: .venv/dev.stamp ## Writes missing migrations (ARGS="-n name app")
	@PORTAL_PROFILE=development $(RUN) -- $(BIN)/python manage.py makemigrations $(ARGS)

lock: .tools/bin/uv ## Renews the hashed lock files from requirements/*.in
	@for part in runtime embedded push libvirt dev; do \
		out=requirements/$$part.txt; test $$part = runtime && out=requirements.txt; \
		$(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header \
			requirements/$$part.in -o $$out; \
	done

texts: .venv/dev.stamp ## Finds the texts that are new and asks for their translation (needs GNU gettext)
	@PORTAL_PROFILE=test DATABASE_URL=postgres://x@127.0.0.1:1/x REDIS_URL=redis://127.0.0.1:1/0 \
		$(BIN)/python manage.py makemessages --all --no-location --no-obsolete $(addprefix -i ,$(NO_TEXTS))

screenshots: .venv/dev.stamp $(PARTS) ## Plays the demo and takes the pictures of the user guide (needs Chromium; ARGS="--only home-requester")
	@$(BIN)/python docs/screenshots.py $(ARGS)

clean: ## Removes everything that the targets made, also below /var/tmp
	@python=$(BIN)/python; test -x $$python || python=$(PYTHON); \
		test ! -e .data || { $$python -m itsm_portal.embedded clean --data .data .data/screenshots .data/test .data/machines .data/sequences .data/bench \
			.data/drill && $$python -m itsm_portal.demo.machines .data; }
	@rm -rf .venv .tools .data static/vendor locale/.stamp locale/*/*/*.mo staticfiles node_modules .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
