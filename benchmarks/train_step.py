"""What a train step costs beside the bare encoder's forward and backward.

    python benchmarks/train_step.py --json=train_step.json
    python benchmarks/train_step.py --depth=50 --image_size=224 --batch_size=32

A step of `SimCLRModel` (augmentation, encoder, projection head, NT-Xent, LARS)
against the encoder alone on the same number of views: its forward pass in
training mode and the gradient of a sum with respect to its weights. Steps
alternate, and the median of the ratios counts. Images of up to 64 pixels are
taken as the paper takes CIFAR-10's (a small stem, colours of half the strength,
no blur), larger ones as ImageNet's.
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import report
import tensorflow as tf
from absl import app, flags

import simclr_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 18, "Of the ResNet.")
flags.DEFINE_float("width_multiplier", 1.0, "Of the ResNet.")
flags.DEFINE_integer("image_size", 32, "Of images and views, in pixels.")
flags.DEFINE_integer("batch_size", 256, "Images in a batch; twice the views.")
flags.DEFINE_integer("runs", 5, "Steps of each; the median counts.")
flags.DEFINE_boolean("jit_compile", False, "Compile both by XLA.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")


def is_small():
    return FLAGS.image_size <= 64


def build_encoder():
    return simclr_keras.encoders.ResNet(
        FLAGS.depth,
        width_multiplier=FLAGS.width_multiplier,
        stem="cifar" if is_small() else "imagenet",
        input_shape=(FLAGS.image_size, FLAGS.image_size, 3),
    )


def make_bare_step():
    encoder = build_encoder()
    views = tf.random.uniform(
        (2 * FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3)
    )

    @tf.function(jit_compile=FLAGS.jit_compile)
    def step(views):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(views, training=True))
        return tape.gradient(loss, encoder.trainable_variables)

    return lambda: step(views)[0].numpy()


def make_train_step():
    model = simclr_keras.SimCLRModel(
        build_encoder(),
        augmentation=simclr_keras.SimCLRAugmentation(
            FLAGS.image_size,
            FLAGS.image_size,
            strength=0.5 if is_small() else 1.0,
            blur=not is_small(),
        ),
    )
    model.compile(
        optimizer=simclr_keras.LARS(1.0, weight_decay=1e-4),
        loss=simclr_keras.NTXentLoss(temperature=0.5),
        jit_compile=FLAGS.jit_compile,
    )
    images = tf.random.uniform(
        (FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3),
        maxval=255,
        dtype=tf.int32,
    )
    images = tf.cast(images, tf.uint8)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(images).repeat())
    return lambda: float(model.train_function(batches)["loss"])


def measure(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main(_):
    bare, train = make_bare_step(), make_train_step()
    bare(), train()  # traces and compiles
    times = [(measure(bare), measure(train)) for _ in range(FLAGS.runs)]
    results = {
        "encoder_seconds": statistics.median(a for a, _ in times),
        "train_step_seconds": statistics.median(b for _, b in times),
        "ratio": statistics.median(b / a for a, b in times),
    }
    print(
        f"ResNet-{FLAGS.depth}, width {FLAGS.width_multiplier:g}, "
        f"{FLAGS.batch_size} images of {FLAGS.image_size} pixels: encoder "
        f"{results['encoder_seconds']:.2f} s, train step "
        f"{results['train_step_seconds']:.2f} s, ratio {results['ratio']:.3f}"
    )
    report.write_json(
        FLAGS.json,
        benchmark="train_step",
        depth=FLAGS.depth,
        width_multiplier=FLAGS.width_multiplier,
        image_size=FLAGS.image_size,
        batch_size=FLAGS.batch_size,
        runs=FLAGS.runs,
        jit_compile=FLAGS.jit_compile,
        results=results,
    )


if __name__ == "__main__":
    app.run(main)
