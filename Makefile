# Two commands for everybody: `make demo` and `make test`. Both set up what they need; running them again is quick.

VENV := .venv
BIN := $(VENV)/bin
# A proxy may have a certificate of its own, which the system knows.
export UV_SYSTEM_CERTS ?= 1
UV := $(shell command -v uv || echo .tools/bin/uv)
NODE_MODULES := node_modules/.installed

.PHONY: setup demo serve test check conformance soak load bench format clean

setup: $(VENV)/.synced

$(VENV)/.synced: pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked --all-extras --quiet
	@touch $@

.tools/bin/uv:
	python3 -m pip install --quiet --disable-pip-version-check --target .tools 'uv>=0.9,<1'

# Servers that nobody here wrote. Without npm the tests that need them are skipped, and say so.
$(NODE_MODULES): package.json package-lock.json
	@if command -v npm >/dev/null; then npm ci --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "npm is missing: the tests against Node servers will be skipped"; fi

demo: setup
	$(BIN)/mcp-clients demo

# The gateway at http://127.0.0.1:8000. ARGS="--config mcp.json", say.
serve: setup
	$(BIN)/mcp-clients serve $(ARGS)

test: setup $(NODE_MODULES)
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term

check: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/pytest -q --no-cov tests/test_layers.py

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

conformance: setup $(NODE_MODULES)
	$(BIN)/python -m tests.conformance.run
	$(BIN)/python -m tests.conformance.run_server

# Calls on servers that are killed at random: ten minutes, or as many seconds as SECONDS says.
SECONDS := 600
soak: setup
	$(BIN)/python -W error tests/soak.py --seconds $(SECONDS)

# 200 callers at once through a gateway for a minute, or ARGS="--seconds 10 --callers 50".
load: setup
	$(BIN)/python -W error -m tests.load $(ARGS)

# Beside the official SDK, FastMCP and a hand-written loop, against stub servers in C. ARGS="--quick --only stdio", say.
bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf build $(VENV) .tools node_modules .pytest_cache .ruff_cache .hypothesis .coverage*
