# Everything runs in an environment of its own: .venv
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo demo-qan test test-all test-lowest lint docs dist clean

demo: .venv/demo
	$(BIN)/python examples/quickstart_digits.py

demo-qan: .venv/demo
	$(BIN)/python examples/qan_digits.py

test: .venv/dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# With those marked slow, which take as long again.
test-all: .venv/dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m ""

# The same tests with the lowest versions that pyproject.toml allows. TESTS=tests/test_paths.py runs some.
test-lowest: $(LOWEST)/dev
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist worksteal $(TESTS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Guides and tutorials are run; those that have not changed come from docs/_build/cache.
docs: .venv/docs
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

# An sdist, a wheel made from it, and that wheel in a fresh environment.
dist: .venv/dev
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_dist.py dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/docs: .venv/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(LOWEST)/dev: pyproject.toml setup.py .ci/lowest.py
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist docs/_build *.egg-info
