import json
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import simclr_keras
from simclr_keras.published_weights import PublishedWeights
from simclr_keras.published_weights.config import infer_encoder
from simclr_keras.published_weights.keys import is_ignored, tidy
from simclr_keras.published_weights.variables_file import PublishedFile
from tests.published_weights import published_network
from tests.published_weights.published_network import PublishedNetwork, Shape

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "published_weights"
NAMES = ["resnet18_cifar", "resnet50_sk"]
FORMATS = ["checkpoint", "saved_model"]
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
ENDPOINTS = ["initial_conv", "initial_max_pool"] + [
    f"block_group{i}" for i in range(1, 5)
]


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


# --- The fixtures -----------------------------------------------------------


def read_all(name):
    """Every value of a fixture's checkpoint by its key."""
    reader = tf.train.load_checkpoint(str(FIXTURES / name / "checkpoint"))
    return {
        key: reader.get_tensor(key)
        for key in reader.get_variable_to_shape_map()
    }


def order_of_making(key):
    """Sorts the keys of a checkpoint's layers as their making did."""
    if "resnet_model/initial" in key:
        return 0, int(re.search(r"pool/(\d+)", key)[1])
    if "block_groups" in key:
        group, block, part, index, rest = re.search(
            r"groups/(\d+)/layers/(\d+)/(\w+)/(\d+)/(.*)", key
        ).groups()
        is_main = part in ("conv2d_bn_layers", "conv_relu_dropblock_layers")
        # In a selective kernel the 3x3 comes first and has no number.
        inner = {"conv2d_0": 1, "conv2d_1": 2, "batch_norm_relu_1": 1}
        inner = inner.get(rest.split("/")[0], 0)
        return 1, int(group), int(block), is_main, int(index), inner
    if "_projection_head" in key:
        return 2, int(re.search(r"linear_layers/(\d+)", key)[1])
    return (3,)


def saved_model_variables(name, with_statistics):
    """Names of a published SavedModel's variables with a fixture's values.

    The numbers in the names count layers in the order of their making, so the
    n-th kernel of the checkpoint in that order belongs to the n-th name.
    """
    path = FIXTURES / name / "saved_model_variables.txt"
    names = dict(line.split("\t") for line in path.read_text().splitlines())
    if with_statistics:
        for norm in list(names):
            if norm.startswith("projection_head") and norm.endswith("gamma:0"):
                for moving in ("moving_mean:0", "moving_variance:0"):
                    names[norm.replace("gamma:0", moving)] = names[norm]
    keys = {}
    for key in read_all(name):
        if key.startswith("model/") and "SLOT" not in key:
            layer = re.search(r"(conv2d|bn|dense)(_\d)?/\w+/\.", key)[1]
            variable = key.split("/")[-3]
            keys.setdefault((layer, variable), []).append(key)
    counted = {}
    for full_name in names:
        layer, number, variable = re.search(
            r"/(conv2d|sync_batch_normalization|dense)(?:_(\d+))?/(\w+):0$",
            full_name,
        ).groups()
        layer = "bn" if layer.startswith("sync") else layer
        counted.setdefault((layer, variable), []).append(
            (int(number or 0), full_name)
        )
    values, paired = read_all(name), {}
    for kind, found in counted.items():
        ordered = sorted(keys[kind], key=order_of_making)
        if with_statistics:
            assert len(ordered) == len(found)
        for key, (_, full_name) in zip(ordered, sorted(found)):
            value = values[key]
            assert "x".join(map(str, value.shape)) == names[full_name]
            paired[full_name.removesuffix(":0")] = value
    assert len(paired) == len(names)
    return paired


def write_saved_model(values, path):
    """A SavedModel of nothing but variables with these names."""
    module = tf.Module()
    module.all = [tf.Variable(v, name=name) for name, v in values.items()]
    tf.saved_model.save(module, str(path))
    return path


def fixture_path(name, file_format, tmp_path):
    if file_format == "checkpoint":
        return FIXTURES / name
    values = saved_model_variables(name, with_statistics=True)
    return write_saved_model(values, tmp_path / "saved_model")


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_gives_what_the_published_network_gave(name, file_format, tmp_path):
    path = fixture_path(name, file_format, tmp_path)
    weights = simclr_keras.load_published_weights(path)
    assert isinstance(weights, PublishedWeights)
    encoder, head, classifier = weights

    config = json.loads((FIXTURES / name / "config.json").read_text())
    for key in ("depth", "width_multiplier", "sk_ratio"):
        assert getattr(encoder, key) == config[key]
    is_cifar = config["image_size"] <= 32
    assert encoder.stem == ("cifar" if is_cifar else "imagenet")
    assert encoder.se_ratio == 0
    assert encoder.image_shape == (None, None, 3)
    assert head.num_layers == config["num_proj_layers"]
    assert head.output_dim == config["proj_out_dim"]
    assert head.hidden_dim is None
    assert type(classifier) is keras.layers.Dense
    assert classifier.units == config["num_classes"]

    expected = np.load(FIXTURES / name / "expected.npz")
    images = expected["images"].astype("float32") / 255
    outputs = keras.Model(encoder.input, encoder.endpoints)(
        images, training=False
    )
    h = outputs["final_avg_pool"]
    results = {
        "representation": h,
        "projection": head(h, training=False),
        "logits": classifier(h),
    }
    for endpoint in ENDPOINTS:
        results[f"{endpoint}_mean"] = np.mean(outputs[endpoint], axis=(1, 2))
    assert set(results) | {"images"} == set(expected)
    # float32, up to 71 convolutions: sums in another order differ by 1e-6.
    for key, result in results.items():
        np.testing.assert_allclose(
            result, expected[key], rtol=1e-5, atol=1e-5, err_msg=key
        )


def test_saved_model_without_the_heads_statistics(tmp_path):
    # As many variables as the list of the published names has.
    values = saved_model_variables("resnet18_cifar", with_statistics=False)
    path = write_saved_model(values, tmp_path / "saved_model")
    with pytest.warns(UserWarning, match="moving statistics") as caught:
        encoder, head, _ = simclr_keras.load_published_weights(path)
    for i in range(2):
        key = f"nl_{i}/batch_norm_relu/sync_batch_normalization/moving_mean"
        assert key in str(caught[0].message)
        np.testing.assert_array_equal(head.layers[3 * i + 1].moving_mean, 0)
    # With a batch's own statistics the projection is the published one's.
    whole = simclr_keras.load_published_weights(FIXTURES / "resnet18_cifar")
    x = np.random.default_rng(0).random((4, 32, 32, 3), "float32")
    h = encoder(x)
    np.testing.assert_array_equal(
        head(h, training=True), whole.projection_head(h, training=True)
    )
    # Nor is it enough to ask for a head that is not there.
    with pytest.raises(ValueError, match=r"Missing \(14\)"):
        simclr_keras.load_published_weights(
            path, ignore=["projection_head"], num_projection_layers=3
        )
    # One that is there is no reason to do without the others.
    name = "projection_head/nl_0/batch_norm_relu_21/sync_batch_normalization_21"
    values[f"{name}/moving_mean"] = np.zeros(32, "float32")
    write_saved_model(values, tmp_path / "part")
    with pytest.raises(ValueError, match=r"Missing \(3\)"):
        simclr_keras.load_published_weights(tmp_path / "part")


@pytest.mark.slow
def test_trains_on():
    keras.utils.set_random_seed(0)  # of the order of the images
    encoder, head, _ = simclr_keras.load_published_weights(
        FIXTURES / "resnet18_cifar", input_shape=(16, 16, 3)
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        projection_head=head,
        augmentation=simclr_keras.SimCLRAugmentation(16, 16, seed=0),
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=simclr_keras.NTXentLoss(temperature=0.5),
    )
    before = [np.array(v) for v in model.trainable_variables]
    assert len(before) == 68  # Those of the list, less the classifier's two.
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), "uint8")
    losses = model.fit(images, batch_size=32, epochs=4, verbose=0)
    losses = losses.history["loss"]
    assert losses[-1] < losses[0]
    for variable, old in zip(model.trainable_variables, before):
        assert np.any(np.array(variable) != old), variable.path


@pytest.mark.slow
def test_classifier_trains_on():
    encoder, _, classifier = simclr_keras.load_published_weights(
        FIXTURES / "resnet18_cifar"
    )
    model = keras.Sequential([encoder, classifier])
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x = np.random.default_rng(0).random((8, 16, 16, 3), "float32")
    history = model.fit(x, np.arange(8), epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]


# --- Every configuration ----------------------------------------------------

CONFIGURATIONS = [
    {"depth": 18, "sk_ratio": 0.0625, "se_ratio": 0.25, "stem": "imagenet"},
    {"depth": 34, "se_ratio": 0.1, "num_projection_layers": 3},
    {"depth": 50, "stem": "imagenet", "num_projection_layers": 1},
    {"depth": 50, "sk_ratio": 1.0, "se_ratio": 1.0, "num_classes": 0},
    {"depth": 101, "se_ratio": 0.25, "num_projection_layers": 0},
    {"depth": 152, "sk_ratio": 0.0625, "stem": "imagenet"},
    {"depth": 200, "sk_ratio": 0.0625, "se_ratio": 0.25},
]


def cases():
    """Format and configuration; TensorFlow is slow to save a SavedModel."""
    for arguments in CONFIGURATIONS:
        for file_format, depth in (("checkpoint", 50), ("saved_model", 34)):
            is_slow = arguments["depth"] > depth
            yield pytest.param(
                file_format,
                arguments,
                marks=[pytest.mark.slow] * is_slow,
                id=f"{file_format}-{'-'.join(map(str, arguments.values()))}",
            )


def check_network(path, network, arguments):
    """Loads a network and compares configuration and outputs."""
    encoder, head, classifier = simclr_keras.load_published_weights(path)
    assert encoder.depth == arguments["depth"]
    assert encoder.stem == arguments.get("stem", "cifar")
    # All kernels have the least width here, whatever the ratio.
    assert encoder.sk_ratio == (0.0625 if "sk_ratio" in arguments else 0)
    assert encoder.se_ratio == arguments.get("se_ratio", 0)
    x = np.random.default_rng(0).random((2, 40, 33, 3), "float32")
    h, z, logits = network(x)
    # float32, hundreds of convolutions, relative to the largest value.
    for part, inputs, expected in (
        (encoder, x, h),
        (head, h, z),
        (classifier, h, logits),
    ):
        if expected is None:
            assert part is None
            continue
        scale = np.abs(expected).max()
        np.testing.assert_allclose(part(inputs), expected, atol=1e-5 * scale)


@pytest.mark.parametrize(("file_format", "arguments"), cases())
def test_equals_plain_tensorflow(file_format, arguments, tmp_path):
    # Beside another network, without synchronized batch norm in its names.
    network = PublishedNetwork(**arguments, before=2, synchronized=False)
    if file_format == "checkpoint":
        path = published_network.save_checkpoint(network, tmp_path / "model")
    else:
        path = published_network.save_saved_model(network, tmp_path)
    check_network(path, network, arguments)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(
    ("depth", "width_multiplier", "sk_ratio", "stem"),
    # Those that were published, and CIFAR's.
    [
        (18, 1, 0.0, "cifar"),
        (34, 0.3, 0.0, "imagenet"),
        (50, 1, 0.0, "imagenet"),
        (50, 2, 0.0625, "imagenet"),
        (50, 4, 0.0, "imagenet"),
        (101, 2, 0.0, "imagenet"),
        (152, 3, 0.0625, "imagenet"),
        (200, 1, 0.1, "cifar"),
    ],
)
def test_configuration_from_keys_and_shapes(
    depth, width_multiplier, sk_ratio, stem, file_format
):
    network = PublishedNetwork(
        depth, width_multiplier, sk_ratio, stem=stem, make=Shape
    )
    shapes = published_network.shapes(network, file_format)
    keys = tidy(file_format, shapes)
    file = PublishedFile(
        "",
        file_format,
        keys,
        {key: shapes[name] for key, name in keys.items()},
        None,
    )
    config, found = infer_encoder(file, {})
    if width_multiplier == 0.3:
        width_multiplier = 153 / 512  # the same filters
    assert config == {
        "depth": depth,
        "width_multiplier": width_multiplier,
        "sk_ratio": sk_ratio,
        "se_ratio": 0.0,
        "stem": stem,
        "input_shape": (None, None, 3),
    }
    heads = ("_projection", "projection", "head_", "supervised")
    encoder = {key for key in keys if not key.startswith(heads)}
    assert set(found.values()) == encoder


def test_ratio_of_the_fewest_digits():
    network = PublishedNetwork(50, sk_ratio=0.7, se_ratio=0.3, make=Shape)
    # At 1/16 of the width all selective kernels have the least width.
    wide = PublishedNetwork(50, 1, sk_ratio=0.7, se_ratio=0.3, make=Shape)
    for net, expected in ((network, 0.0625), (wide, 0.7)):
        shapes = published_network.shapes(net, "checkpoint")
        keys = tidy("checkpoint", shapes)
        shapes = {key: shapes[name] for key, name in keys.items()}
        file = PublishedFile("", "checkpoint", keys, shapes, None)
        config, _ = infer_encoder(file, {})
        assert config["sk_ratio"] == expected
        assert config["se_ratio"] == 0.3


def test_arguments_stand_above_the_file():
    path = FIXTURES / "resnet18_cifar"
    encoder, head, _ = simclr_keras.load_published_weights(
        path,
        depth=18,
        width_multiplier=1 / 16,
        stem="cifar",
        input_shape=(24, 16, 3),
        num_projection_layers=2,
        projection_dim=32,
        num_classes=10,
        synchronized=False,
    )
    assert encoder.image_shape == (24, 16, 3)
    assert encoder.synchronized is False
    assert head.synchronized is False


# --- Ways to name a file ----------------------------------------------------


DATA = "/checkpoint.data-00000-of-00001"


@pytest.mark.parametrize(
    "suffix", ["", "/", "/checkpoint", "/checkpoint.index", DATA]
)
def test_paths(suffix):
    path = f"{FIXTURES / 'resnet18_cifar'}{suffix}"
    assert simclr_keras.load_published_weights(path).encoder.depth == 18


def test_latest_checkpoint_of_a_folder(tmp_path):
    for seed in range(2):
        network = PublishedNetwork(
            18, make=published_network.RandomVariables(seed)
        )
        published_network.save_checkpoint(network, tmp_path / f"model{seed}")
    encoder = simclr_keras.load_published_weights(tmp_path).encoder
    stem = network.resnet_model.initial_conv_relu_max_pool[0].conv2d.kernel
    np.testing.assert_array_equal(encoder.get_layer("stem_conv1").kernel, stem)


# --- Errors -----------------------------------------------------------------


def rewrite(tmp_path, change):
    """Writes a fixture's checkpoint again, changed."""
    values = read_all("resnet18_cifar")
    del values["_CHECKPOINTABLE_OBJECT_GRAPH"]
    change(values)
    prefix = str(tmp_path / "changed")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(v) for v in values.values()],
    )
    return prefix


def error_of(path, **arguments):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        simclr_keras.load_published_weights(path, **arguments)
    return str(caught.value)


def test_one_error_lists_everything(tmp_path):
    stem = (
        f"model/resnet_model/initial_conv_relu_max_pool/0/conv2d/kernel{VALUE}"
    )
    bias = f"model/supervised_head/linear_layer/dense/bias{VALUE}"
    block = "model/resnet_model/block_groups/3/layers/1/conv2d_bn_layers"
    norm, mean = (
        f"{block}/3/bn/gamma{VALUE}",
        f"{block}/3/bn/moving_mean{VALUE}",
    )
    extra, other = f"model/resnet_model/extra{VALUE}", "another"
    slot = next(k for k in read_all("resnet18_cifar") if "SLOT" in k)

    def change(values):
        assert slot in values
        del values[stem], values[bias]
        values[norm] = np.ones(31, "float32")
        values[mean] = np.full(32, np.nan, "float32")
        values[extra] = values[other] = np.ones(3, "float32")

    lines = error_of(rewrite(tmp_path, change)).splitlines()
    lines = [line.strip() for line in lines]
    missing = lines.index("Missing (2):")
    assert lines[missing + 1 : missing + 3] == [stem, bias]
    left_over = lines.index("Left over (2):")
    assert lines[left_over + 1 : left_over + 3] == [other, extra]
    wrong = lines.index("Of a wrong shape (1):")
    assert lines[wrong + 1] == f"{norm}: expected (32,), received (31,)"
    damaged = lines.index("Damaged (1):")
    assert lines[damaged + 1] == f"{mean}: not all of it is finite"
    assert not any("SLOT" in line for line in lines)


def test_a_block_that_is_missing_is_listed(tmp_path):
    block = "model/resnet_model/block_groups/3/layers/1/"

    def change(values):
        for key in [k for k in values if k.startswith(block)]:
            del values[key]

    message = error_of(rewrite(tmp_path, change))
    assert "depth=18" in message
    assert "Missing (10):" in message
    assert f"{block}conv2d_bn_layers/2/conv2d/kernel{VALUE}" in message
    assert "Left over" not in message


def test_saved_model_that_lacks_variables(tmp_path):
    values = saved_model_variables("resnet18_cifar", with_statistics=True)
    first = "resnet/conv2d_fixed_padding/conv2d/kernel"
    last = "head_supervised/linear_layer/dense_2/bias"
    values["another"] = values.pop(first)
    del values[last]
    message = error_of(write_saved_model(values, tmp_path))
    assert "Missing (2):" in message
    assert f"    {first}:0" in message
    assert "    head_supervised/linear_layer/dense/bias:0" in message
    assert "Left over (1):\n    another:0" in message


def test_two_networks_in_one_saved_model(tmp_path):
    values = saved_model_variables("resnet18_cifar", with_statistics=True)
    module = tf.Module()
    module.all = [tf.Variable(v, name=name) for name, v in values.items()]
    name = "resnet/conv2d_fixed_padding/conv2d/kernel"
    module.again = tf.Variable(values[name], name=name)
    tf.saved_model.save(module, str(tmp_path))
    assert f"Left over (1):\n    {name}:0 (again)" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (
            {"depth": 34},
            ["Given were depth=34", "file has depth=18", "Missing (80):"],
        ),
        (
            {"width_multiplier": 0.125},
            ["expected (3, 3, 3, 8), received (3, 3, 3, 4)"],
        ),
        ({"stem": "imagenet"}, ["expected (7, 7, 3, 4)", "Of a wrong shape"]),
        ({"sk_ratio": 0.0625}, ["shortcut_layers/1/conv2d", "Left over"]),
        ({"se_ratio": 0.5}, ["se_layer/se_reduce/bias", "Missing"]),
        ({"input_shape": (32, 32, 1)}, ["expected (3, 3, 1, 4)"]),
        ({"num_projection_layers": 3}, ["linear_layers/2/dense/kernel"]),
        ({"num_projection_layers": 1}, ["Left over", "linear_layers/1/dense"]),
        ({"projection_dim": 64}, ["expected (32, 64), received (32, 32)"]),
        ({"num_classes": 5}, ["expected (5,), received (10,)"]),
        ({"ignore": ["bn/beta"]}, ["Missing (22):"]),
        ({"ignore": ["head.*dense/kernel"]}, ["Missing (3):"]),
    ],
)
def test_arguments_that_do_not_agree(arguments, messages):
    message = error_of(FIXTURES / "resnet18_cifar" / "checkpoint", **arguments)
    for expected in messages:
        assert expected in message


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"depth": 19}, ValueError),
        ({"depth": "18"}, ValueError),
        ({"width_multiplier": 0}, ValueError),
        ({"width_multiplier": "1"}, TypeError),
        ({"sk_ratio": 2}, ValueError),
        ({"se_ratio": "0.5"}, TypeError),
        ({"stem": "mnist"}, ValueError),
        ({"input_shape": (32, 32)}, ValueError),
        ({"num_projection_layers": -1}, ValueError),
        ({"projection_dim": 1.5}, TypeError),
        ({"num_classes": -3}, ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((_, value),) = arguments.items()
    with pytest.raises(error, match=re.escape(repr(value))):
        simclr_keras.load_published_weights(
            FIXTURES / "resnet18_cifar", **arguments
        )


@pytest.mark.parametrize("ignore", [["_head/"], "_head/"])
def test_ignore_leaves_parts_out(ignore):
    weights = simclr_keras.load_published_weights(
        FIXTURES / "resnet18_cifar", ignore=ignore
    )
    assert weights.encoder.depth == 18
    assert weights[1:] == (None, None)


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "overwritten"])
def test_damaged_checkpoints(suffix, damage, tmp_path):
    for file in (FIXTURES / "resnet18_cifar").glob("checkpoint.*"):
        shutil.copyfile(file, tmp_path / file.name)
    prefix = tmp_path / "checkpoint"
    path = tmp_path / f"checkpoint.{suffix}"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:middle])
    else:
        content[middle : middle + 64] = bytes(64)
        path.write_bytes(content)
    if damage == "missing" and suffix == "index":
        with pytest.raises(FileNotFoundError, match=re.escape(str(prefix))):
            simclr_keras.load_published_weights(prefix)
        return
    message = error_of(prefix)
    keys = re.findall(rf"^    (\S+{VALUE}): ", message, re.MULTILINE)
    if suffix == "index":
        assert "cannot be read" in message
    elif damage == "missing":
        assert "Received: 0 bytes of values" in message
    elif damage == "overwritten":
        assert 0 < len(keys) < 10
    else:
        assert len(keys) > 20


def test_damaged_saved_model(tmp_path):
    network = PublishedNetwork(18)
    path = published_network.save_saved_model(network, tmp_path / "model")
    data = tmp_path / "model/variables/variables.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    message = error_of(path)
    assert re.search(rf"It cannot give: .*{VALUE}", message)
    data.write_bytes(content)
    (tmp_path / "model/variables/variables.index").write_bytes(b"no index")
    assert "damaged" in error_of(path)


def test_nothing_in_a_saved_model_is_run(tmp_path):
    """An initializer may write any file when a SavedModel is loaded."""
    network = PublishedNetwork(18)
    written = tmp_path / "written"

    class Initializer(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.constant(0)

        def _initialize(self):
            tf.io.write_file(str(written), "hello")

    class Hostile(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = Initializer()

        @tf.function(input_signature=[])
        def use(self):
            return self.table.resource_handle

    path = published_network.save_saved_model(network, tmp_path / "model")
    expected = simclr_keras.load_published_weights(path).encoder.get_weights()
    hostile = tmp_path / "hostile"
    tf.saved_model.save(Hostile(), str(hostile))
    written.unlink(missing_ok=True)
    tf.saved_model.load(str(hostile))
    assert written.exists()
    written.unlink()
    shutil.copy(hostile / "saved_model.pb", tmp_path / "model/saved_model.pb")
    found = simclr_keras.load_published_weights(path).encoder.get_weights()
    assert not written.exists()
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("shape", [(0, 8192), (1, 8192), (8192,)])
def test_a_small_file_takes_little_memory(shape, tmp_path):
    """A few bytes that say of themselves that they are a wide network."""
    reader = tf.train.load_checkpoint(
        str(FIXTURES / "resnet18_cifar" / "checkpoint")
    )
    names = [n for n in reader.get_variable_to_shape_map() if VALUE in n]
    prefix = str(tmp_path / "checkpoint")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.zeros(shape)] * len(names),
    )
    with pytest.raises(ValueError, match=r"has [\d,]+ weights or more"):
        simclr_keras.load_published_weights(prefix)


def test_files_of_other_things(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        simclr_keras.load_published_weights(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=re.escape("no .index")):
        simclr_keras.load_published_weights(tmp_path)
    other = tf.train.Checkpoint(base_model=tf.Variable(1.0))
    prefix = other.write(str(tmp_path / "first"))
    message = error_of(prefix)
    assert f"base_model{VALUE}" in message
    assert f"initial_conv_relu_max_pool/0/conv2d/kernel{VALUE}" in message
    other.write(str(tmp_path / "second"))
    with pytest.raises(FileNotFoundError, match=r"first.index, second.index"):
        simclr_keras.load_published_weights(tmp_path)
    tf.saved_model.save(other, str(tmp_path / "saved"))
    assert "resnet/conv2d_fixed_padding" in error_of(tmp_path / "saved")


@pytest.mark.parametrize(
    ("file_format", "key", "expected"),
    [
        ("checkpoint", "_CHECKPOINTABLE_OBJECT_GRAPH", True),
        ("checkpoint", f"optimizer/iter{VALUE}", True),
        ("checkpoint", f"save_counter{VALUE}", True),
        ("checkpoint", f"model/optimizer{VALUE}", False),
        ("checkpoint", f"model/resnet_model/momentum{VALUE}", False),
        ("saved_model", "resnet/conv2d/kernel/Momentum:0", True),
        ("saved_model", "global_step:0", True),
        ("saved_model", "resnet/batch_normalization/beta:0", False),
    ],
)
def test_what_is_passed_over(file_format, key, expected):
    assert is_ignored(file_format, key) is expected
