# Each target builds what it needs. `make run`, `make check`, `make test`, `make lint`, `make bench`.
PYTHON ?= python3
BIN := .venv/bin
# Any torch that pyproject.toml admits will do; this build has no CUDA libraries where such a build is at hand.
TORCH ?= torch==2.13.0

# What starts no Ray and is quick; tests/marks.py says which tests those are.
QUICK := not (slow or ray or cluster or browser or gpu)

.PHONY: run check test lint bench clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

run: .venv/.installed
	$(BIN)/python -m search.run phase3 --time-budget 6m

test: .venv/.installed
	$(BIN)/python -m pytest

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One process of tests a processor: nothing in them waits.
check: lint
	$(BIN)/python -m pytest -n logical -m "$(QUICK)" --durations=5

bench: .venv/.installed
	$(BIN)/python benchmarks/orchestration.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
