# Every target makes the environment that it needs; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-bench/.installed
ARGS ?=
SEEDS ?= 300
ROUNDS ?= 8
FOR ?= 60
CALLS ?= 5000

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): locks/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Sluicegate needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Nothing was installed. Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || { echo "making $(VENV) …"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(STAMP) ## make the environment only

.PHONY: run
run: $(STAMP) ## the whole pipeline on this machine, with real traffic (ARGS="--for 60 --report report.json")
	@$(BIN)/python -m stack run $(ARGS)

.PHONY: lint
lint: $(STAMP) ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: browser
browser: $(STAMP)
	@$(BIN)/python -m tests.browser

.PHONY: test
test: $(STAMP) browser ## all tests, on a real Kafka and the real ClickHouse engine (ARGS: options of pytest)
	$(BIN)/python -m pytest -n 2 $(ARGS) tests/unit tests/property tests/contract tests/tidy tests/fuzz
	$(BIN)/python -m pytest $(ARGS) tests/sim
	$(BIN)/python -m pytest -n 2 --dist loadfile -p no:randomly $(ARGS) tests/e2e/test_run.py tests/faults tests/e2e

.PHONY: sim
sim: $(STAMP) ## seeded histories of the whole product in virtual time, with disasters (SEEDS=300 FIRST=seed)
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) $(if $(FIRST),--first $(FIRST)) $(ARGS)

.PHONY: planted
planted: $(STAMP) ## how soon the simulator finds bugs planted on purpose, into docs/planted-bugs.md
	@$(BIN)/python -m tests.sim planted $(ARGS)

.PHONY: faults
faults: $(STAMP) ## kill -9 real processes under load, in rotation; nothing may differ (ROUNDS=100, ARGS="--seed 7")
	@$(BIN)/python -m tests.faults --rounds $(ROUNDS) $(ARGS)

.PHONY: fuzz
fuzz: $(STAMP) ## hostile input for every decoder and HTTP surface (FOR=60 seconds each, ARGS="--only usage")
	$(BIN)/python -m tests.fuzz --for $(FOR) $(ARGS)
	$(BIN)/python -m tests.fuzz.api --for $(FOR)

.PHONY: outages
outages: $(STAMP) ## ClickHouse away for 10 minutes, then the broker for one; nothing may differ afterwards
	$(BIN)/python -m tests.faults.outages clickhouse --for 600
	$(BIN)/python -m tests.faults.outages broker --for 60

.PHONY: spending
spending: $(STAMP) ## four gateways share limits under stress: spending, a key's rate, a death; into docs/spending.md
	$(BIN)/python -m tests.faults.spending $(ARGS)

.PHONY: takeover
takeover: $(STAMP) ## how long a worker's death keeps decisions waiting, into docs/takeover.md
	$(BIN)/python -m tests.faults.takeover --times 20

.PHONY: backtest
backtest: $(STAMP) ## forecasts of months that are over beside what they were, into docs/projection.md
	$(BIN)/python -m tests.backtest $(ARGS)

.PHONY: bench
bench: $(STAMP) $(PEERS) ## our figures beside peers', into bench/latest.json (ONLY=id,… ROUNDS=3 CHECK=1 compares with the last)
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CHECK),--check) $(ARGS)

.PHONY: soak
soak: $(STAMP) ## 20,000 events/s for so long: what grows, and whether all is counted, into docs/soak.md (FOR=600)
	$(BIN)/python -m tests.bench.soak --for $(FOR) $(ARGS)

.PHONY: callers
callers: $(STAMP) ## 20 callers of one key, with the client kit and without, into docs/client.md (CALLS=5000)
	$(BIN)/python -m tests.bench.callers --calls $(CALLS)

$(PEERS): locks/bench.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --require-hashes -r locks/bench.lock
	@touch $@

.PHONY: schemas
schemas: $(STAMP) ## write JSON Schema and AsyncAPI anew from the models
	$(BIN)/python -m sluicegate_schemas.generate

.PHONY: lock
lock: $(STAMP) ## pin all dependencies anew, with hashes and without addresses
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o locks/dev.lock
	$(BIN)/uv pip compile pyproject.toml --extra streams --extra clickhouse --extra webhooks --extra api --extra cli --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o locks/runtime.lock
	$(BIN)/uv pip compile locks/bench.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o locks/bench.lock

.PHONY: clean
clean: ## stop what runs and delete data, environment and caches of this checkout
	@test -x $(BIN)/python && $(BIN)/python -m stack down 2>/dev/null || true
	rm -rf .sluicegate .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build bench/work $(VENV) .venv-bench
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
