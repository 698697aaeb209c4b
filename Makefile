# `make demo` and `make test` set up everything that they need; nothing else has to be typed.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STUDY ?=
DATA ?= ../shared/data/brains
SCANS ?= ../shared/data/brains_validation
RESULTS ?= experiments-output

.PHONY: demo test lint format bench experiments-small setup components clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml scripts/setup
	PYTHON="$(PYTHON)" scripts/setup $(VENV)
	touch $@

components:
	scripts/components

demo: setup
	$(BIN)/python -m vp_node.demo $(if $(STUDY),--study "$(STUDY)")

test: setup components
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup components
	$(BIN)/python -m benchmarks

# Label maps and real scans are not part of the project; docs/EXPERIMENTS.md says where they come from.
experiments-small: setup
	$(BIN)/python -m vp_train.cli experiment all --scale small --data "$(DATA)" --scans "$(SCANS)" --out "$(RESULTS)"

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output experiments-output
