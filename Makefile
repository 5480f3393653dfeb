# Everything a checkout needs is set up by the targets themselves; a machine needs python3 (>= 3.11) and make.
PYTHON ?= python3
BIN := .venv/bin
GEN := .tools/gen
GENERATED := clients server/voxgate_server/providers/riva
PIP := -m pip --disable-pip-version-check --no-input --quiet
ARGS ?=

.PHONY: help serve test check lint types gen check-gen proto-baseline node lock bench soak package clean

help: ## Shows this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: .venv/.server ## Runs the gateway with the embedded recogniser (ARGS="--config FILE" for anything else)
	$(BIN)/voxgate serve $(ARGS)

test: .venv/.dev node ## Everything that has to be true of a commit: generated code, lint, types, tests
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest $(ARGS)

check: check-gen lint types ## What can be judged without running anything

lint: .venv/.dev $(GEN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(GEN)/bin/buf lint
	$(GEN)/bin/buf format --diff --exit-code
	$(GEN)/bin/buf breaking --against protos/baseline.binpb

types: .venv/.dev
	$(BIN)/mypy

gen: $(GEN)/.installed ## Regenerates the code made from the protos
	$(GEN)/bin/buf generate
	$(GEN)/bin/buf generate --template buf.gen.riva.yaml
	$(GEN)/bin/python tools/tidy_gencode.py

check-gen: gen ## Fails when checked-in generated code is not what the protos give
	@git diff --exit-code --stat -- $(GENERATED) && test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" \
		|| { echo "generated code is stale: run 'make gen' and commit what changes" >&2; exit 1; }

proto-baseline: $(GEN)/.installed ## At a release: makes the protos as they are the ones later changes must not break
	$(GEN)/bin/buf build --exclude-source-info -o protos/baseline.binpb

node: ## Installs the Node packages that tests use, where there is Node
	@if command -v npm >/dev/null; then cd tests/node && { test -e node_modules/.package-lock.json \
		&& test node_modules/.package-lock.json -nt package-lock.json || npm ci --no-audit --no-fund --loglevel=error; }; \
	elif [ "$$CI" = true ]; then echo "CI needs node and npm" >&2; exit 1; \
	else echo "left out: tests with the Node SDKs, because there is no npm" >&2; fi

bench: .venv/.dev ## Measures what the gateway costs (10 minutes; ARGS=--quick for one)
	$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/.dev ## Slow tests: leaks and endurance
	$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

package: .venv/.dev ## Builds wheels and source archives into dist/
	$(BIN)/python -m build --no-isolation --outdir dist clients/python
	$(BIN)/python -m build --no-isolation --outdir dist .

lock: ## Resolves the dependencies anew (needs uv)
	tools/lock.sh

clean: ## Removes what the other targets made
	rm -rf .venv .tools dist build tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.server: requirements/server.txt pyproject.toml clients/python/pyproject.toml | .venv/bin/python
	$(BIN)/python $(PIP) install --require-hashes -r requirements/server.txt
	$(BIN)/python $(PIP) install --no-index --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.server
	$(BIN)/python $(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(GEN)/.installed: requirements/gen.txt
	$(PYTHON) -m venv $(GEN)
	$(GEN)/bin/python $(PIP) install --require-hashes -r requirements/gen.txt
	@touch $@
