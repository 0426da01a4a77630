# `make pretrain` and `make test` do their own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/digits
HERE := $(subst /,-,$(CURDIR))

# Twice the speed on processors without AVX-512, where TensorFlow leaves
# oneDNN out unless it is told otherwise.
export TF_ENABLE_ONEDNN_OPTS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: pretrain test lint format clean

pretrain: $(VENV)/examples$(HERE)
	$(BIN)/python examples/pretrain.py --recipe=digits --run_dir=$(RUN_DIR) --resume

test: $(VENV)/test$(HERE)
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/test$(HERE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/test$(HERE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

# A stamp for each set of extras, made again when setup.py changes. A copied or
# moved .venv still points to where it was made: its stamps bear another path,
# and it is replaced.
$(VENV)/examples$(HERE) $(VENV)/test$(HERE): $(VENV)/%$(HERE): setup.py
	@$(BIN)/python -c "import sys; sys.exit(sys.prefix != '$(CURDIR)/$(VENV)')" \
		2>/dev/null || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@
