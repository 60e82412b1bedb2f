# Two commands: `make demo` runs the main job, `make test` runs every test (`make android-test`
# those of the Android app alone). Each makes the environment first, on a machine that has only
# Python 3.11 (another version: `make PYTHON=python3.12 test`).
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo test android-test lint clean

demo: $(VENV)/.ready
	$(BIN)/classkinfy demo --out build/demo

test: $(VENV)/.ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

android-test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/android

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf build $(VENV)
