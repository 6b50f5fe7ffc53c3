# pep-bridge: `make demo` runs the main job on the built-in simulated stamp, `make test` passes the tests. Both set themselves up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test soak bench lint format docs kit lock clean

demo: $(VENV)/runtime.stamp
	$(BIN)/pep-bridge demo

test: $(VENV)/dev.stamp tools
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# An hour of runs with random faults (SOAK_ARGS="--minutes 5 --seed 4"), and every moment at which a client is killed.
soak: $(VENV)/dev.stamp tools
	$(BIN)/python -m tests.soak $(SOAK_ARGS)
	PEP_BRIDGE_ALL_KILLS=1 $(BIN)/python -m pytest tests/collection/test_kill.py

bench: $(VENV)/dev.stamp
	tools/setup_test_servers.sh --bench
	$(BIN)/python -m bench $(BENCH_ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 bridge cli

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Manual pages and the site, in build/docs; fails where a link leads nowhere.
docs: $(VENV)/docs.stamp
	$(BIN)/python -m tools.docs build/docs

# One archive for Windows and one for Linux, in build/kit, to install without network or administrator rights.
kit: docs
	$(BIN)/python -m tools.kit --documentation build/docs build/kit

# Samba, Azurite and what else the tests talk to; installs only what is missing.
.PHONY: tools
tools:
	tools/setup_test_servers.sh

$(VENV)/runtime.stamp: requirements/build.txt requirements/runtime.txt pyproject.toml
	@echo 'Setting up $(VENV): the first time only, about a minute'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --require-hashes -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements/dev.txt | tools
	@echo 'Adding what the tests need to $(VENV)'
	$(PIP) install --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/docs.stamp: $(VENV)/runtime.stamp requirements/docs.txt
	@echo 'Adding what the documentation needs to $(VENV)'
	$(PIP) install --require-hashes -r requirements/docs.txt
	touch $@

# New pins and hashes, without the address of any index.
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --no-emit-index-url
lock: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) requirements/build.in --output-file requirements/build.txt
	$(LOCK) requirements/kit.in --output-file requirements/kit.txt
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) --group docs pyproject.toml --output-file requirements/docs.txt
	$(LOCK) --group dev pyproject.toml --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .tools build .mypy_cache .ruff_cache .pytest_cache .hypothesis
