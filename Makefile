# `make pretrain` and `make test` do their own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/digits
# Plain `torch` brings gigabytes of CUDA on Linux; TORCH may name another one.
TORCH ?= torch
# What other versions can break: of `data`, what is TensorFlow's or TFDS's.
OLDEST ?= $(addprefix tests/,augmentation encoders export losses model \
	optimizers test_batch_norm.py test_keras_private.py test_metrics.py \
	test_projection_head.py $(addprefix data/,test_augment.py \
	test_crops_while_decoding.py test_decoding.py test_tfds.py))
HERE := $(subst /,-,$(CURDIR))

# Twice the speed on processors without AVX-512, where TensorFlow leaves
# oneDNN out unless it is told otherwise.
export TF_ENABLE_ONEDNN_OPTS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: pretrain test test-jax test-torch test-oldest test-partners docs \
	notebooks lint format clean

pretrain: $(VENV)/examples$(HERE)
	$(BIN)/python examples/pretrain.py --recipe=digits --run_dir=$(RUN_DIR) --resume

# In two processes: most tests keep one core busy.
test: $(VENV)/test$(HERE)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# The components on Keras's other backends, each in an environment of its own.
test-jax test-torch: test-%: .venv-%/test$(HERE)
	KERAS_BACKEND=$* .venv-$*/bin/python -m pytest -m "not slow" \
		-n 2 --dist loadfile tests/backends

# The oldest versions of what setup.py requires, by a Python that has them.
# Before 2.20 TensorFlow needs a protobuf that TFDS's newest metadata does not
# take, which pip is not told.
test-oldest: .venv-oldest/test$(HERE)
	.venv-oldest/bin/python -m pytest -m "not slow" -n 2 --dist loadfile \
		$(OLDEST)

# Backbones and layers of KerasHub and KerasCV, which bring much with them.
test-partners: .venv-partners/test$(HERE)
	.venv-partners/bin/python -m pytest -m "not slow" \
		-n 2 --dist loadfile tests/partners

# The documentation as a site, in site/; a warning is an error. The variable
# keeps the theme's news of its own future out of the log.
docs: .venv-docs/docs$(HERE)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

# Runs the notebooks anew, whose outputs are shown on the site.
notebooks: $(VENV)/test$(HERE)
	$(BIN)/python -m pip install --quiet nbclient ipykernel
	$(BIN)/python docs/notebooks.py

lint: $(VENV)/test$(HERE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/test$(HERE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-jax .venv-torch .venv-oldest .venv-partners \
		.venv-docs build dist site *.egg-info

# A stamp for each set of extras, made again when setup.py changes. A copied or
# moved environment still points to where it was made: its stamps bear another
# path, and it is replaced.
define environment
	@$(@D)/bin/python -c "import sys; sys.exit(sys.prefix != '$(CURDIR)/$(@D)')" \
		2>/dev/null || rm -rf $(@D)
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
endef

$(VENV)/examples$(HERE) $(VENV)/test$(HERE): $(VENV)/%$(HERE): setup.py
	$(environment)
	$(@D)/bin/python -m pip install --quiet --editable ".[$*]"
	@touch $@

.venv-jax/test$(HERE) .venv-torch/test$(HERE) .venv-partners/test$(HERE): \
		.venv-%/test$(HERE): setup.py
	$(environment)
	$(@D)/bin/python -m pip install --quiet --editable ".[$*,test]" \
		$(if $(filter torch,$*),"$(TORCH)")
	@touch $@

.venv-oldest/test$(HERE): setup.py
	$(environment)
	sed -n '/install_requires/,/]/s/.*"\(.*\)>=\(.*\)".*/\1==\2.*/p' setup.py \
		> $(@D)/oldest.txt
	echo "tensorflow-metadata<1.18" >> $(@D)/oldest.txt
	$(@D)/bin/python -m pip install --quiet --editable ".[test]" \
		--constraint $(@D)/oldest.txt
	@touch $@

# The sources are read and not imported: the package comes without what it
# needs, TensorFlow above all, and then the packages of its extra alone.
.venv-docs/docs$(HERE): setup.py
	$(environment)
	$(@D)/bin/python -m pip install --quiet --no-deps --editable .
	$(@D)/bin/python -c "from importlib.metadata import requires; \
		print(*(line.split(';')[0] for line in requires('simclr_keras') \
		if line.endswith('extra == \"docs\"')))" \
		| xargs $(@D)/bin/python -m pip install --quiet
	@touch $@
