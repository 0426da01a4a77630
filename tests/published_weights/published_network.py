"""The published networks once more, in plain TensorFlow.

A tree of `tf.Module` with the attributes of Google's implementation, so that
TensorFlow itself makes a checkpoint's keys of them; its variables have the
names that a SavedModel keeps. What it computes is written here independently
of the package, so that a package that takes one variable for another gives
other numbers.
"""

import collections

import numpy as np
import tensorflow as tf

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


class Shape(tf.Module):
    """Stands for a variable of which only name and shape are wanted."""

    def __init__(self, shape, name):
        super().__init__()
        self.shape, self.full_name = shape, name


class RandomVariables:
    """Makes variables with a value of their own each."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def __call__(self, shape, name):
        kind = name.rsplit("/", 1)[1]
        value = self.rng.uniform(0.5, 1.0, shape)
        if kind == "kernel":
            fan_in = np.prod(shape[:-1])
            value = self.rng.normal(size=shape) / np.sqrt(fan_in)
        elif kind in ("beta", "moving_mean", "bias"):
            value = self.rng.normal(size=shape) / 10
        return tf.Variable(value, name=name, dtype="float32")


def module(**attributes):
    made = tf.Module()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


class PublishedNetwork(tf.Module):
    """Encoder, projection head and classifier.

    Args:
        depth, width_multiplier, sk_ratio, se_ratio, stem: As of `ResNet`.
        num_projection_layers: Layers of the projection head; 0 is no head.
        num_classes: Outputs of the classifier; 0 is no classifier.
        make: Function (shape, name) that gives a variable.
        synchronized: Whether batch norm has the name of the synchronized one.
        before: How many layers of every kind were made before.
    """

    def __init__(
        self,
        depth,
        width_multiplier=1 / 16,
        sk_ratio=0.0,
        se_ratio=0.0,
        stem="cifar",
        num_projection_layers=2,
        num_classes=5,
        make=None,
        synchronized=True,
        before=0,
    ):
        super().__init__()
        self.make = make or RandomVariables()
        self.counts = collections.defaultdict(lambda: before)
        self.sk_ratio, self.se_ratio = sk_ratio, se_ratio
        self.norm = "sync_batch_normalization"
        if not synchronized:
            self.norm = "batch_normalization"
        self.is_bottleneck = depth >= 50
        self.stem = stem
        widths = [int(f * width_multiplier) for f in (64, 128, 256, 512)]

        self.resnet_model = module()
        scope, first = self.number("resnet"), widths[0]
        if sk_ratio > 0 and stem == "imagenet":
            half = first // 2
            layers = [
                self.conv(scope, 3, 3, half),
                self.batch_norm(scope, half),
                self.conv(scope, 3, half, half),
                self.batch_norm(scope, half),
                self.conv(scope, 3, half, first),
            ]
        else:
            layers = [self.conv(scope, 3 if stem == "cifar" else 7, 3, first)]
        layers += [tf.Module(), self.batch_norm(scope, first)]
        self.resnet_model.initial_conv_relu_max_pool = layers
        groups, channels = [], first
        for i, (filters, count) in enumerate(zip(widths, BLOCKS[depth])):
            name = f"{scope}/block_group{i + 1}"
            blocks = []
            for j in range(count):
                blocks.append(self.block(name, channels, filters, j == 0, i))
                channels = filters * (4 if self.is_bottleneck else 1)
            groups.append(module(layers=blocks))
        self.resnet_model.block_groups = groups

        layers = []
        for j in range(num_projection_layers):
            scope = f"projection_head/nl_{j}"
            is_last = j == num_projection_layers - 1
            out = 7 if is_last else channels
            dense = self.dense(scope, channels, out, bias=False)
            norm = self.batch_norm(scope, out, center=not is_last)
            layers.append(module(dense=dense, bn_relu=norm))
        if layers:
            self._projection_head = module(linear_layers=layers)
        if num_classes:
            dense = self.dense(
                "head_supervised/linear_layer", channels, num_classes, bias=True
            )
            self.supervised_head = module(linear_layer=module(dense=dense))

    # --- Layers, in the order in which the names count them ---

    def number(self, kind):
        n = self.counts[kind]
        self.counts[kind] += 1
        return f"{kind}_{n}" if n else kind

    def plain_conv(self, scope, k, c, d, bias=False):
        name = f"{scope}/{self.number('conv2d')}"
        made = module(kernel=self.make((k, k, c, d), f"{name}/kernel"))
        if bias:
            made.bias = self.make((d,), f"{name}/bias")
        return made

    def conv(self, scope, k, c, d):
        scope = f"{scope}/{self.number('conv2d_fixed_padding')}"
        return module(conv2d=self.plain_conv(scope, k, c, d))

    def batch_norm(self, scope, d, center=True):
        scope = f"{scope}/{self.number('batch_norm_relu')}"
        name = f"{scope}/{self.number(self.norm)}"
        kinds = ["gamma", "beta", "moving_mean", "moving_variance"]
        if not center:
            kinds.remove("beta")
        return module(
            bn=module(**{k: self.make((d,), f"{name}/{k}") for k in kinds})
        )

    def dense(self, scope, c, d, bias):
        name = f"{scope}/{self.number('dense')}"
        made = module(kernel=self.make((c, d), f"{name}/kernel"))
        if bias:
            made.bias = self.make((d,), f"{name}/bias")
        return made

    def block(self, scope, c, f, is_first, group):
        made, shortcut = module(), []
        kind = "bottleneck_block" if self.is_bottleneck else "residual_block"
        scope = f"{scope}/{self.number(kind)}"
        out = 4 * f if self.is_bottleneck else f
        if is_first:
            pools = 0 if not self.sk_ratio else 1 if group == 0 else 2
            shortcut = [tf.Module() for _ in range(pools)]
            shortcut += [self.conv(scope, 1, c, out)]
            shortcut += [self.batch_norm(scope, out)]
        if not self.is_bottleneck:
            made.conv2d_bn_layers = [
                self.conv(scope, 3, c, f),
                self.batch_norm(scope, f),
                self.conv(scope, 3, f, f),
                self.batch_norm(scope, f),
            ]
            made.shortcut_layers = shortcut
            if self.se_ratio:
                made.se_layer = self.excitation(scope, f, out)
            return made
        layers = [
            self.conv(scope, 1, c, f),
            self.batch_norm(scope, f),
            tf.Module(),
        ]
        if self.sk_ratio:
            layers += [self.selective_kernel(scope, f)]
        else:
            layers += [self.conv(scope, 3, f, f), self.batch_norm(scope, f)]
        layers += [tf.Module(), self.conv(scope, 1, f, out)]
        layers += [self.batch_norm(scope, out), tf.Module()]
        if self.se_ratio:
            layers += [self.excitation(scope, f, out)]
        made.conv_relu_dropblock_layers = layers
        made.projection_layers = shortcut
        return made

    def selective_kernel(self, scope, f):
        scope = f"{scope}/{self.number('sk__conv2d')}"
        hidden = max(int(f * self.sk_ratio), 32)
        return module(
            conv2d_fixed_padding=self.conv(scope, 3, f, 2 * f),
            batch_norm_relu=self.batch_norm(scope, 2 * f),
            conv2d_0=self.plain_conv(scope, 1, f, hidden),
            batch_norm_relu_1=self.batch_norm(scope, hidden),
            conv2d_1=self.plain_conv(scope, 1, hidden, 2 * f),
        )

    def excitation(self, scope, f, out):
        scope = f"{scope}/{self.number('se__layer')}"
        hidden = max(1, int(f * self.se_ratio))
        return module(
            se_reduce=self.plain_conv(scope, 1, out, hidden, bias=True),
            se_expand=self.plain_conv(scope, 1, hidden, out, bias=True),
        )

    # --- What they compute, at inference ---

    def __call__(self, x):
        """Images (B, H, W, 3) to representation, projection and logits.

        None for a head that the network does not have.
        """
        is_cifar = self.stem == "cifar"
        layers = [
            layer
            for layer in self.resnet_model.initial_conv_relu_max_pool
            if hasattr(layer, "conv2d") or hasattr(layer, "bn")
        ]
        for i in range(0, len(layers), 2):
            strides = 1 if is_cifar or i else 2
            x = convolve(x, layers[i].conv2d, strides)
            x = tf.nn.relu(normalize(x, layers[i + 1]))
        if not is_cifar:
            x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for i, group in enumerate(self.resnet_model.block_groups):
            for j, block in enumerate(group.layers):
                x = self.run_block(x, block, 2 if i > 0 and j == 0 else 1)
        h = tf.reduce_mean(x, (1, 2))
        z = logits = None
        layers = []
        if hasattr(self, "_projection_head"):
            z, layers = h, self._projection_head.linear_layers
        for j, layer in enumerate(layers):
            z = normalize(z @ layer.dense.kernel, layer.bn_relu)
            if j < len(layers) - 1:
                z = tf.nn.relu(z)
        if hasattr(self, "supervised_head"):
            dense = self.supervised_head.linear_layer.dense
            logits = h @ dense.kernel + dense.bias
        return h, z, logits

    def run_block(self, x, block, strides):
        layers, shortcut = "conv2d_bn_layers", "shortcut_layers"
        if self.is_bottleneck:
            layers, shortcut = "conv_relu_dropblock_layers", "projection_layers"
        layers, short = getattr(block, layers), x
        if len(getattr(block, shortcut)):
            *_, conv, norm = getattr(block, shortcut)
            if self.sk_ratio:
                if strides == 2:
                    short = tf.pad(short, ((0, 0), (0, 1), (0, 1), (0, 0)))
                padding = "SAME" if strides == 1 else "VALID"
                short = tf.nn.avg_pool2d(short, 2, strides, padding)
                short = convolve(short, conv.conv2d, 1)
            else:
                short = convolve(short, conv.conv2d, strides)
            short = normalize(short, norm)
        if not self.is_bottleneck:
            x = tf.nn.relu(
                normalize(convolve(x, layers[0].conv2d, strides), layers[1])
            )
            x = normalize(convolve(x, layers[2].conv2d, 1), layers[3])
            if self.se_ratio:
                x = excite(x, block.se_layer)
            return tf.nn.relu(x + short)
        x = tf.nn.relu(normalize(convolve(x, layers[0].conv2d, 1), layers[1]))
        if self.sk_ratio:
            x = select(x, layers[3], strides)
            last = 5
        else:
            x = convolve(x, layers[3].conv2d, strides)
            x = tf.nn.relu(normalize(x, layers[4]))
            last = 6
        x = normalize(convolve(x, layers[last].conv2d, 1), layers[last + 1])
        if self.se_ratio:
            x = excite(x, layers[last + 3])
        return tf.nn.relu(x + short)


def convolve(x, layer, strides):
    pad = (layer.kernel.shape[0] - 1) // 2
    x = tf.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    x = tf.nn.conv2d(x, layer.kernel, strides, "VALID")
    return x + layer.bias if hasattr(layer, "bias") else x


def normalize(x, layer):
    bn = layer.bn
    beta = bn.beta if hasattr(bn, "beta") else 0.0
    return (x - bn.moving_mean) / tf.sqrt(
        bn.moving_variance + 1e-5
    ) * bn.gamma + beta


def select(x, layer, strides):
    x = convolve(x, layer.conv2d_fixed_padding.conv2d, strides)
    x = tf.nn.relu(normalize(x, layer.batch_norm_relu))
    streams = tf.stack(tf.split(x, 2, axis=-1))
    x = tf.reduce_mean(tf.reduce_sum(streams, 0), (1, 2), keepdims=True)
    x = normalize(convolve(x, layer.conv2d_0, 1), layer.batch_norm_relu_1)
    mixing = convolve(tf.nn.relu(x), layer.conv2d_1, 1)
    mixing = tf.nn.softmax(tf.stack(tf.split(mixing, 2, axis=-1)), axis=0)
    return tf.reduce_sum(streams * mixing, 0)


def excite(x, layer):
    pooled = tf.reduce_mean(x, (1, 2), keepdims=True)
    hidden = tf.nn.relu(convolve(pooled, layer.se_reduce, 1))
    return x * tf.sigmoid(convolve(hidden, layer.se_expand, 1))


# --- Files ------------------------------------------------------------------


def save_checkpoint(network, prefix):
    """Saves as the reference training does, with counters."""
    step = tf.Variable(7, dtype="int64")
    checkpoint = tf.train.Checkpoint(model=network, global_step=step)
    return checkpoint.save(str(prefix))  # adds a `save_counter`


def save_saved_model(network, path):
    """Saves as a module that holds the network."""
    tf.saved_model.save(module(model=network), str(path))
    return str(path)


def shapes(network, file_format):
    """Shapes by key of a network made with `make=Shape`."""
    found = {}

    def walk(node, path):
        for name, child in tf.train.TrackableView.children(node).items():
            if isinstance(child, Shape):
                key = f"{path}/{name}/.ATTRIBUTES/VARIABLE_VALUE"
                if file_format == "saved_model":
                    key = f"{child.full_name}:0"
                found[key] = child.shape
            else:
                walk(child, f"{path}/{name}")

    walk(network, "model")
    return found
