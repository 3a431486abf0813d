# The one place where commands are defined; CI and people call the same targets.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 …` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null && echo $$p && break; done)
ARGS ?=

.PHONY: help setup demo test check browser postgres faults bench format clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## create .venv and install the pinned set

$(VENV)/.ready: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11, 3.12 or 3.13 is needed; found: $$(python3 --version 2>&1). Install one, or run 'make PYTHON=/path/to/python3.12 …'."; exit 1; fi
	@free=$$(df -Pm . | awk 'NR==2 {print $$4}'); if [ "$$free" -lt 1500 ]; then \
		echo "1500 MB of free disk are needed here for the packages; found $$free MB. Free some, then run again."; exit 1; fi
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "python -m venv failed: on Debian or Ubuntu install it with 'apt-get install python3-venv', then run again."; exit 1; }
	@echo "Installing the pinned packages into $(VENV) (about a minute) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,sweep]'
	@touch $@

demo: setup ## one whole rehearsal day through Prefect (KEEP=1 leaves server and UI up; ARGS='--seed 11 …')
	@exec $(BIN)/bot demo $(if $(KEEP),--keep) $(ARGS)

# By file: servers and days that a module shares are started once (the groups of xdist 3.8 do nothing with pytest 9.2).
test: setup ## every test
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

browser: ## the browser that the screen tests drive (Debian, Ubuntu); nothing where there is one
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo "Installing chromium for the screen tests …"; \
		$$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium'; }

postgres: ## the PostgreSQL that the server test runs (Debian, Ubuntu); nothing where there is one
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
		echo "Installing PostgreSQL with its extensions for the server test …"; \
		$$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends postgresql'; }

check: setup ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: setup ## killed at every step and at 500 random moments, on both databases (ARGS='--random 50 --seed 3')
	@BOT_FAULT_ROUNDS=200 $(BIN)/python -m pytest tests/faults -n 2 --dist worksteal --every-point --random 500 $(ARGS)

bench: setup ## speed, as ratios within one run (PAGE=README.md puts the table there)
	@mkdir -p .bot/bench && rm -f .bot/bench/rows.jsonl
	@for file in tests/bench/bench_*.py; do BENCH_ROWS=.bot/bench/rows.jsonl $(BIN)/python $$file || exit 1; done
	@$(BIN)/python tests/bench/rows.py .bot/bench/rows.jsonl $(PAGE)

format: setup ## let ruff rewrite the files
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove what running left behind (not the environment)
	rm -rf .bot .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache mutants
