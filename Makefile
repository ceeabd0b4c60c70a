# Everything runs in an environment of its own: .venv
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo demo-qan test lint clean

demo: .venv/demo
	$(BIN)/python examples/quickstart_digits.py

demo-qan: .venv/demo
	$(BIN)/python examples/qan_digits.py

test: .venv/dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
