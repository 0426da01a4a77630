"""A step of the tiny model in float64 and plain TensorFlow operations."""

import numpy as np
import tensorflow as tf

from tests.model.models import NUM_CLASSES, RATE, TEMPERATURE


class ByHand:
    """The tiny model in float64 and raw TensorFlow operations."""

    def __init__(self, model):
        self.weights = {
            v.path: tf.Variable(v.numpy().astype("float64"))
            for v in model.weights
        }

    def norm(self, name, x, training):
        axes = list(range(len(x.shape) - 1))
        mean = self.weights[f"{name}/moving_mean"]
        variance = self.weights[f"{name}/moving_variance"]
        if training:
            mean, variance = tf.nn.moments(x, axes)
        # Keras's own epsilon in the encoder, the paper's in the head
        x = (x - mean) / tf.sqrt(variance + (1e-5 if "head" in name else 1e-3))
        x = x * self.weights[f"{name}/gamma"]
        beta = self.weights.get(f"{name}/beta")
        return x if beta is None else x + beta

    def represent(self, images, training=False):
        x = tf.constant(images, "float64") / 255
        kernel = self.weights["encoder/conv/kernel"]
        x = tf.nn.conv2d(x, kernel, strides=2, padding="VALID")
        x = tf.nn.relu(self.norm("encoder/norm", x, training))
        return tf.reduce_mean(x, axis=(1, 2))

    def project(self, h, training=False):
        x = h @ self.weights["head/dense_1/kernel"]
        x = tf.nn.relu(self.norm("head/batch_norm_1", x, training))
        x = x @ self.weights["head/dense_2/kernel"]
        return self.norm("head/batch_norm_2", x, training)

    def loss(self, z):
        """Equation 1 as matrices, with the views themselves cut out."""
        count = len(z)
        z = z / tf.norm(z, axis=1, keepdims=True)
        logits = z @ tf.transpose(z) / TEMPERATURE
        others = tf.boolean_mask(logits, ~np.eye(count, dtype=bool))
        others = tf.reshape(others, (count, count - 1))
        partner = np.roll(np.eye(count), count // 2, axis=1)
        positives = tf.reduce_sum(logits * partner, axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(others, axis=1) - positives)

    def metrics(self, z):
        """Contrastive accuracy and entropy."""
        z = z.numpy() / np.linalg.norm(z, axis=1, keepdims=True)
        logits = z[: len(z) // 2] @ z[len(z) // 2 :].T / TEMPERATURE
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return {
            "contrastive_accuracy": np.mean(
                logits.argmax(axis=1) == np.arange(len(logits))
            ),
            "contrastive_entropy": -(p * np.log(p)).sum(axis=1).mean(),
        }

    def logs(self, views):
        images = np.concatenate([views["view_1"], views["view_2"]])
        z = self.project(self.represent(images, training=True), training=True)
        return {"loss": float(self.loss(z)), **self.metrics(z)}

    def step(self, views, labels=None, l2=0.0):
        """One step of SGD; its logs."""
        images = np.concatenate([views["view_1"], views["view_2"]])
        with tf.GradientTape() as tape:
            h = self.represent(images, training=True)
            z = self.project(h, training=True)
            loss = self.loss(z)
            loss += l2 * tf.reduce_sum(self.weights["encoder/conv/kernel"] ** 2)
        logs = {**self.metrics(z), "loss": float(loss)}
        gradients = tape.gradient(loss, self.weights)
        if labels is not None:
            labels = np.concatenate([labels, labels])
            logits = h @ self.weights["linear_probe/kernel"]
            logits += self.weights["linear_probe/bias"]
            # The gradient of a softmax regression: p - y
            error = tf.nn.softmax(logits) - np.eye(NUM_CLASSES)[labels]
            error /= len(labels)
            gradients["linear_probe/kernel"] = tf.transpose(h) @ error
            gradients["linear_probe/bias"] = tf.reduce_sum(error, axis=0)
            logs.update(probe_logs(logits.numpy(), labels))
        for path, gradient in gradients.items():
            if gradient is not None and "moving" not in path:
                self.weights[path].assign_sub(RATE * gradient)
        return logs


def probe_logs(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return {
        "probe_loss": -log_p[np.arange(len(labels)), labels].mean(),
        "probe_accuracy": (logits.argmax(axis=1) == labels).mean(),
    }


def assert_trained_alike(model, by_hand):
    for v in model.trainable_variables:
        # float32; the gradients go through two batch norms, which divide by
        # deviations of about 0.1.
        np.testing.assert_allclose(
            v, by_hand.weights[v.path], rtol=1e-4, atol=1e-5, err_msg=v.path
        )
