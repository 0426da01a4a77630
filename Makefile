# `make pretrain` and `make test` do their own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/digits

# Twice the speed on processors without AVX-512, where TensorFlow leaves
# oneDNN out unless it is told otherwise.
export TF_ENABLE_ONEDNN_OPTS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: pretrain test lint format clean

pretrain: $(VENV)/examples
	$(BIN)/python examples/pretrain.py --recipe=digits --run_dir=$(RUN_DIR) --resume

test: $(VENV)/test
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

# A stamp for each set of extras, made again when setup.py changes. A copied or
# moved .venv still points to where it was made, so it is checked and replaced.
$(VENV)/examples $(VENV)/test: $(VENV)/%: setup.py
	@$(BIN)/python -c "import sys; sys.exit(sys.prefix != '$(CURDIR)/$(VENV)')" \
		2>/dev/null || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@
