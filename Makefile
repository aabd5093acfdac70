# `make app` and `make test` are all that a fresh machine with Python 3.11 to 3.13 needs.

PYTHON ?= python3
# Without a GPU: `make app TORCH_INDEX=ADDRESS` takes PyTorch's CPU build, which needs gigabytes less. ADDRESS is
# the index that the selector on pytorch.org shows for "CPU"; see docs/deploy.md.
TORCH_INDEX ?=
# Processes that share the tests.
PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help app gradio test test-slow fuzz lint format docs clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

app: PORT ?= 8501
app: $(VENV)/app.stamp  ## the Streamlit page, on the weights that ship (PORT=8501)
	$(BIN)/python -m captionbot app --port=$(PORT)

gradio: PORT ?= 7860
gradio: $(VENV)/app.stamp  ## the Gradio page (PORT=7860)
	$(BIN)/python -m captionbot app --gradio --port=$(PORT)

test: $(VENV)/test.stamp  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations=20

test-slow: $(VENV)/test.stamp  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/test.stamp  ## 20,000 hostile files, in child processes that are watched
	PYTHONPATH=tests $(BIN)/python -m fuzz --inputs 20000

lint: $(VENV)/test.stamp  ## style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/test.stamp  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/docs.stamp  ## the documentation with the API reference, as pages in site/
	$(BIN)/mkdocs build --strict

clean:  ## remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:  # the last thing that venv makes, so that half an environment is made anew
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "CaptionBot needs Python 3.11 to 3.13: name one, as in 'make $(MAKECMDGOALS) PYTHON=python3.12'"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/app.stamp: requirements.txt | $(BIN)/pip
	$(if $(TORCH_INDEX),PIP_INDEX_URL="$(TORCH_INDEX)" $(BIN)/python -m pip install --disable-pip-version-check \
		$$(grep -E '^torch(vision)?[<>=]' requirements.txt | tr '\n' ' '))
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/test.stamp: tests/requirements.txt training/requirements.txt $(VENV)/app.stamp
	$(BIN)/python -m pip install --disable-pip-version-check -r tests/requirements.txt
	touch $@

$(VENV)/docs.stamp: docs/requirements.txt | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check -r docs/requirements.txt
	touch $@
