# Every target does all of its own set-up: uv in build/tool, the locked environment in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
SEED ?= 1
WAVES ?= 6
WORKERS ?= 1
ENCODER ?=
ONLY ?=

UV_VERSION := 0.13.9
UV := build/tool/bin/uv
RUN := $(UV) run --frozen --no-sync
STAMP := build/stamp

export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_PREFERENCE := only-system
export UV_COMPILE_BYTECODE := 1
# A company's own certificate authority is in the system's store.
export UV_SYSTEM_CERTS := 1

.PHONY: help demo test check bench chaos clean

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(UV):
	@echo "setting up uv $(UV_VERSION) in build/tool"
	$(PYTHON) -m venv build/tool
	build/tool/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

$(STAMP)/run: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --no-default-groups --inexact --quiet
	mkdir -p $(STAMP) && touch $@

$(STAMP)/test: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --no-default-groups --group test --extra encoder --inexact --quiet
	mkdir -p $(STAMP) && touch $@

$(STAMP)/check: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --no-default-groups --group test --group lint --inexact --quiet
	mkdir -p $(STAMP) && touch $@

$(STAMP)/bench: $(UV) uv.lock pyproject.toml
	@$(UV) sync --frozen --no-default-groups --group test --group bench --extra encoder --inexact --quiet
	mkdir -p $(STAMP) && touch $@

# Peers whose pins clash with ours, in an environment of their own.
$(STAMP)/peers: $(UV) tests/bench/speed/peers.txt
	@$(UV) venv --quiet --clear --python $(PYTHON) build/peers
	$(UV) pip install --quiet --python build/peers/bin/python -r tests/bench/speed/peers.txt
	mkdir -p $(STAMP) && touch $@

demo: $(STAMP)/run ## a campaign learns in six waves, on a real Kafka (SEED=, WAVES=, WORKERS=, ENCODER=1)
	@$(RUN) groundswell demo --seed $(SEED) --waves $(WAVES) --workers $(WORKERS) $(if $(ENCODER),--encoder)

test: $(STAMP)/test ## every test but the slow suites
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(RUN) pytest

check: $(STAMP)/check ## ruff, mypy, import-linter, schema compatibility
	@$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python -m schemas.compatibility

bench: $(STAMP)/bench $(STAMP)/peers ## every figure with its bar, as build/bench/*.json (ONLY=speed)
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(RUN) pytest tests/bench -m bench -p no:randomly -k "$(ONLY)"

chaos: $(STAMP)/test ## the long fault suite, as build/chaos/*.json
	@$(RUN) pytest tests/chaos tests/kafka -m chaos -p no:randomly

clean: ## what was built, but not the broker's cache
	rm -rf build .venv
