# Each target builds what it needs. `make run`, `make check`, `make test`, `make lint`, `make bench`.
PYTHON ?= python3
BIN := .venv/bin
# Any torch that pyproject.toml admits will do. This version is pinned, as in README's commands, since CI tests with it. pip takes the build that
# your index has, on Linux often one with CUDA, which a CPU does not need. `make test TORCH='torch==2.13.0 --index-url URL'`, where URL is
# PyTorch's index of CPU wheels, gets the small one.
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
	$(BIN)/python -m search.run phase3 --trials 21 --time-budget 6m

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
