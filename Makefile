# `make pretrain` and `make test` do their own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/digits
# Plain `torch` brings gigabytes of CUDA on Linux; TORCH may name another one.
TORCH ?= torch
HERE := $(subst /,-,$(CURDIR))

# Twice the speed on processors without AVX-512, where TensorFlow leaves
# oneDNN out unless it is told otherwise.
export TF_ENABLE_ONEDNN_OPTS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: pretrain test test-jax test-torch test-partners docs lint format clean

pretrain: $(VENV)/examples$(HERE)
	$(BIN)/python examples/pretrain.py --recipe=digits --run_dir=$(RUN_DIR) --resume

# In two processes: most tests keep one core busy.
test: $(VENV)/test$(HERE)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# The components on Keras's other backends, each in an environment of its own.
test-jax test-torch: test-%: .venv-%/test$(HERE)
	KERAS_BACKEND=$* .venv-$*/bin/python -m pytest -m "not slow" \
		-n 2 --dist loadfile tests/backends

# Backbones and layers of KerasHub and KerasCV, which bring much with them.
test-partners: .venv-partners/test$(HERE)
	.venv-partners/bin/python -m pytest -m "not slow" \
		-n 2 --dist loadfile tests/partners

# The documentation as a site, in site/; a warning is an error. The variable
# keeps the theme's news of its own future out of the log.
docs: .venv-docs/docs$(HERE)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

lint: $(VENV)/test$(HERE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/test$(HERE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-jax .venv-torch .venv-partners .venv-docs \
		build dist site *.egg-info

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

.venv-jax/test$(HERE) .venv-torch/test$(HERE) .venv-partners/test$(HERE): \
		.venv-%/test$(HERE): setup.py
	@.venv-$*/bin/python -c \
		"import sys; sys.exit(sys.prefix != '$(CURDIR)/.venv-$*')" \
		2>/dev/null || rm -rf .venv-$*
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --upgrade pip
	.venv-$*/bin/python -m pip install --quiet --editable ".[$*,test]" \
		$(if $(filter torch,$*),"$(TORCH)")
	@touch $@

# The sources are read and not imported: the package comes without what it
# needs, TensorFlow above all, and then the packages of its extra alone.
.venv-docs/docs$(HERE): setup.py
	@.venv-docs/bin/python -c \
		"import sys; sys.exit(sys.prefix != '$(CURDIR)/.venv-docs')" \
		2>/dev/null || rm -rf .venv-docs
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade pip
	.venv-docs/bin/python -m pip install --quiet --no-deps --editable .
	.venv-docs/bin/python -c "from importlib.metadata import requires; \
		print(*(line.split(';')[0] for line in requires('simclr_keras') \
		if line.endswith('extra == \"docs\"')))" \
		| xargs .venv-docs/bin/python -m pip install --quiet
	@touch $@
