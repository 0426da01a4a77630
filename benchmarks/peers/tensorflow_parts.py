"""What the TensorFlow libraries have in common, in Keras 2 and in Keras 3."""

import tensorflow as tf
import worker


def loss_and_gradient(loss, config):
    """Function that computes a loss of two projections and its gradient."""

    @tf.function
    def function(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(*z)
        return value, tape.gradient(value, z)

    dtype = config["dtype"]
    z = [tf.cast(x, dtype) for x in worker.random_projections(config)]
    return lambda: [x.numpy() for x in tf.nest.flatten(function(z))]


def batches(images, config):
    """Batches of the images, in their order."""
    dataset = tf.data.Dataset.from_tensor_slices(images)
    return dataset.batch(config["batch_size"])


def repeated(batch, config):
    """One batch as often as a measurement has batches."""
    dataset = tf.data.Dataset.from_tensors(batch).cache()
    options = tf.data.Options()
    # Whose thread lets the end of a pass wait for up to as long as it took.
    options.autotune.enabled = False
    return dataset.repeat(config["batches"]).with_options(options)


def shuffled(images):
    """The images without end, in a new order for each pass."""
    dataset = tf.data.Dataset.from_tensor_slices(images)
    return dataset.shuffle(len(images)).repeat()


def fit_until_deadline(model, dataset, config):
    """Trains for the minutes of the config; returns steps and seconds."""
    deadline = worker.Deadline(config["minutes"])

    def on_train_batch_end(batch, logs):
        model.stop_training = deadline.step()

    callback = tf.keras.callbacks.LambdaCallback(
        on_train_batch_end=on_train_batch_end
    )
    # Longer than any race. Without a number Keras would take the whole, and
    # endless, dataset for an epoch as well, but warn of it.
    model.fit(dataset, steps_per_epoch=10**6, callbacks=[callback], verbose=0)
    return deadline.result()


def write_features(encoder, config, train, test):
    """Writes the representations of the images, which are in [0, 1]."""
    encode = tf.function(lambda images: encoder(images, training=False))
    worker.write_features(
        config, lambda images: encode(images).numpy(), train, test
    )
