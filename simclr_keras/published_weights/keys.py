"""The names of the variables in published SimCLR networks.

Google's reference implementation is saved in two formats. A TF2 checkpoint has
a key for each variable, the path of attributes that leads to it:

    model/resnet_model/block_groups/0/layers/1/conv2d_bn_layers/2/conv2d/kernel

and a SavedModel keeps the variables' names, in which layers of a kind are
numbered in the order of their creation:

    resnet/block_group1/residual_block_1/conv2d_fixed_padding_5/conv2d_5/kernel

The functions here return both for the variables of `encoders.ResNet` and of
`ProjectionHead`. They read no files and do not need TensorFlow.
"""

import collections
import re

from simclr_keras.encoders import resnet

CHECKPOINT = "checkpoint"
SAVED_MODEL = "saved_model"

_KERNEL = ("kernel",)
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # ends every key of a checkpoint

# Encoder, projection head, classifier.
_ROOTS = {
    CHECKPOINT: ("resnet_model", "_projection_head", "supervised_head"),
    SAVED_MODEL: ("resnet", "projection_head", "head_supervised"),
}
# The dense layer and the batch norm of each projection layer, from 0.
_PROJECTION = {
    CHECKPOINT: (
        "_projection_head/linear_layers/{}/dense",
        "_projection_head/linear_layers/{}/bn_relu/bn",
    ),
    SAVED_MODEL: (
        "projection_head/nl_{}/dense",
        "projection_head/nl_{}/batch_norm_relu/sync_batch_normalization",
    ),
}
_CLASSIFIER = {
    CHECKPOINT: "supervised_head/linear_layer/dense",
    SAVED_MODEL: "head_supervised/linear_layer/dense",
}
# The layers that are numbered in the names of a SavedModel.
_COUNTED = re.compile(
    r"/(conv2d_fixed_padding|conv2d|batch_norm_relu|sync_batch_normalization"
    r"|residual_block|bottleneck_block|sk__conv2d|se__layer|dense)"
    r"(?:_(\d+))?(?=/)"
)
# Training state: optimizer, counters, TensorFlow's bookkeeping.
_IGNORED = {
    CHECKPOINT: re.compile(
        r"_CHECKPOINTABLE_OBJECT_GRAPH$"
        r"|(optimizer|global_step|save_counter)/"
        r"|.*/\.OPTIMIZER_SLOT/"
    ),
    SAVED_MODEL: re.compile(
        r"(.*/)?(global_step|save_counter|iter|learning_rate|decay"
        r"|[Mm]omentum|m|v):\d+$"
    ),
}


def depths():
    """Returns the depths of the published networks."""
    return tuple(resnet._ARCHITECTURES)


def is_ignored(file_format, key):
    """Whether a key is training state and not part of a network."""
    return _IGNORED[file_format].match(key) is not None


def tidy(file_format, keys):
    """Removes from keys what differs between files of the same network.

    That is the prefix of the networks (`model/`) and the ending that all keys
    share. In a SavedModel it is also numbers that depend on what was created
    before, and whether batch norm was synchronized.

    Args:
        file_format: `CHECKPOINT` or `SAVED_MODEL`.
        keys: The keys of a checkpoint or the names of a SavedModel's variables.

    Returns:
        Dictionary from key, as the functions below return it, to the key in
        the file. Other keys are left unchanged.
    """
    roots = "|".join(_ROOTS[file_format])
    pattern = rf"(?:.*?/)?({roots})(?:_\d+)?/(.*?)(?::\d+)?"
    if file_format == CHECKPOINT:
        pattern = rf"(?:.*?/)?({roots})/(.*){_VALUE}"
    matches = {key: re.fullmatch(pattern, key) for key in keys}
    tidied = {key: "/".join(m.groups()) for key, m in matches.items() if m}
    if file_format == SAVED_MODEL:
        tidied = _renumber(tidied)
    found = {}
    for key in keys:
        short = tidied.get(key, key)
        # If a file has two networks, the keys of the second remain as they are.
        found[key if short in found else short] = key
    return found


def _renumber(names):
    """Renumbers the names in a SavedModel as if there were one network."""
    names = {
        key: re.sub(r"/batch_normalization", "/sync_batch_normalization", name)
        for key, name in names.items()
    }
    numbers = collections.defaultdict(list)
    for name in names.values():
        if name.startswith("resnet/"):
            for kind, n in _COUNTED.findall(name):
                numbers[kind].append(int(n or 0))
    # The second network in a process continues the numbers of the first.
    least = {kind: min(counts) for kind, counts in numbers.items()}
    if not all(least.values()):
        least = dict.fromkeys(least, 0)

    def restart(match):
        return "/" + _numbered(match[1], int(match[2] or 0) - least[match[1]])

    for key, name in names.items():
        if name.startswith("resnet/"):
            names[key] = _COUNTED.sub(restart, name)
        else:  # The heads' layers follow from the number in `nl_0`.
            name = _COUNTED.sub(r"/\1", name)
            names[key] = name.replace(
                "projection_head/l_", "projection_head/nl_"
            )
    return names


def _numbered(kind, count):
    """Returns the name of a layer that follows `count` of its kind."""
    return f"{kind}_{count}" if count else kind


def encoder_keys(file_format, depth, has_sk, has_se, has_deep_stem):
    """Returns the keys of an encoder's variables.

    Args:
        file_format: `CHECKPOINT` or `SAVED_MODEL`.
        depth: Depth of the `ResNet`.
        has_sk: Boolean, whether its `sk_ratio` is above 0.
        has_se: Boolean, whether its `se_ratio` is above 0.
        has_deep_stem: Boolean, whether its stem has three convolutions, as
            with `sk_ratio` above 0 and the stem "imagenet".

    Returns:
        Dictionary from the variable's path, such as "stem_conv1/kernel", to
        the key as `tidy` returns it.
    """
    encoder = _Encoder(file_format)
    num_convs = 3 if has_deep_stem else 1
    for k in range(1, num_convs + 1):
        stem, index = "initial_conv_relu_max_pool", 2 * (k - 1)
        encoder.conv(f"stem_conv{k}", f"{stem}/{index}")
        # Between the last two, a layer that names the endpoint.
        index += 2 if k == num_convs else 1
        encoder.batch_norm(f"stem_bn{k}", f"{stem}/{index}")
    kind = "bottleneck_block" if depth >= 50 else "residual_block"
    for group, blocks in enumerate(resnet._ARCHITECTURES[depth][1]):
        for block in range(blocks):
            encoder.begin_block(group, block, kind)
            if block == 0:
                encoder.shortcut(group, kind, has_sk)
            encoder.branch(kind, has_sk, has_se)
    return encoder.keys


class _Encoder:
    """Collects the keys of an encoder's layers in the order of creation.

    `layer` is a name in our encoder and `place` a path in the checkpoint, both
    relative to the block.
    """

    def __init__(self, file_format):
        self.file_format = file_format
        self.keys = {}
        self._counts = collections.Counter()
        self._layer, self._place, self._scope = "", "resnet_model/", "resnet/"

    def _next(self, kind):
        self._counts[kind] += 1
        return _numbered(kind, self._counts[kind] - 1)

    def _add(self, layer, place, scope, variables):
        key = self._place + place
        if self.file_format == SAVED_MODEL:
            key = self._scope + scope
        for variable in variables:
            self.keys[f"{self._layer}{layer}/{variable}"] = f"{key}/{variable}"

    def begin_block(self, group, block, kind):
        """Begins a block; group and block are counted from 0."""
        self._layer = f"block_group{group + 1}_block{block + 1}_"
        self._place = f"resnet_model/block_groups/{group}/layers/{block}/"
        self._scope = f"resnet/block_group{group + 1}/{self._next(kind)}/"

    def conv(self, layer, place, scope=""):
        """Adds a convolution with padding of its own."""
        outer, inner = self._next("conv2d_fixed_padding"), self._next("conv2d")
        self._add(layer, f"{place}/conv2d", f"{scope}{outer}/{inner}", _KERNEL)

    def plain_conv(self, layer, place, scope, variables=_KERNEL):
        """Adds a plain Keras convolution, 1x1."""
        self._add(layer, place, scope + self._next("conv2d"), variables)

    def batch_norm(self, layer, place, scope=""):
        """Adds batch norm."""
        outer = self._next("batch_norm_relu")
        inner = self._next("sync_batch_normalization")
        self._add(layer, f"{place}/bn", f"{scope}{outer}/{inner}", _BATCH_NORM)

    def shortcut(self, group, kind, has_sk):
        """Adds the projection of a group's first block."""
        place = "projection_layers"
        if kind == "residual_block":
            place = "shortcut_layers"
        # With selective kernels, after a pooling layer and, if it has a stride,
        # a padding layer.
        index = 0 if not has_sk else 1 if group == 0 else 2
        self.conv("shortcut_conv", f"{place}/{index}")
        self.batch_norm("shortcut_bn", f"{place}/{index + 1}")

    def branch(self, kind, has_sk, has_se):
        """Adds everything in a block except its projection."""
        place, layers = "conv2d_bn_layers", ["conv1", "bn1", "conv2", "bn2"]
        if kind == "bottleneck_block":
            place = "conv_relu_dropblock_layers"
            middle = ["sk"] if has_sk else ["conv2", "bn2"]
            # None: drop-block layers, which have no variables.
            layers = ["conv1", "bn1", None, *middle, None, "conv3", "bn3", None]
        for index, layer in enumerate(layers):
            if layer == "sk":
                self._selective_kernel(f"{place}/{index}")
            elif layer is not None:
                add = self.conv if layer.startswith("conv") else self.batch_norm
                add(layer, f"{place}/{index}")
        if has_se:
            place = f"{place}/{len(layers)}"
            if kind == "residual_block":
                place = "se_layer"
            scope = self._next("se__layer") + "/"
            for part in ("reduce", "expand"):
                self.plain_conv(
                    f"se/{part}",
                    f"{place}/se_{part}",
                    scope,
                    ("kernel", "bias"),
                )

    def _selective_kernel(self, place):
        scope = self._next("sk__conv2d") + "/"
        self.conv("sk/conv", f"{place}/conv2d_fixed_padding", scope)
        self.batch_norm("sk/conv_bn", f"{place}/batch_norm_relu", scope)
        self.plain_conv("sk/reduce", f"{place}/conv2d_0", scope)
        self.batch_norm("sk/reduce_bn", f"{place}/batch_norm_relu_1", scope)
        self.plain_conv("sk/expand", f"{place}/conv2d_1", scope)


def projection_keys(file_format, num_layers, has_batch_norm=True):
    """Returns the keys of a projection head's variables.

    Args:
        file_format: `CHECKPOINT` or `SAVED_MODEL`.
        num_layers: Number of its dense layers.
        has_batch_norm: Boolean, whether batch norm follows each of them.

    Returns:
        Dictionary from the variable's path relative to the head, such as
        "dense_1/kernel", to the key as `tidy` returns it.
    """
    keys = {}
    for i in range(num_layers):
        dense, batch_norm = (s.format(i) for s in _PROJECTION[file_format])
        keys[f"dense_{i + 1}/kernel"] = f"{dense}/kernel"
        for variable in _BATCH_NORM if has_batch_norm else ():
            if variable == "beta" and i == num_layers - 1:
                continue  # The last batch norm has no beta.
            keys[f"batch_norm_{i + 1}/{variable}"] = f"{batch_norm}/{variable}"
    return keys


def classifier_keys(file_format):
    """Returns the keys of the linear classifier's variables."""
    layer = _CLASSIFIER[file_format]
    return {name: f"{layer}/{name}" for name in ("kernel", "bias")}


def roots(file_format):
    """Returns the prefixes of encoder, projection head and classifier."""
    return tuple(f"{root}/" for root in _ROOTS[file_format])


def encoder_example(file_format):
    """Returns an example of a key in a file."""
    keys = encoder_keys(file_format, 18, False, False, False)
    return full_key(file_format, keys["stem_conv1/kernel"])


def full_key(file_format, key):
    """Returns the key in a file for `key` as `tidy` returns it."""
    if file_format == CHECKPOINT:
        return f"model/{key}{_VALUE}"
    return f"{key}:0"
