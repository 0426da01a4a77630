"""What evaluation asks of an accelerator, where Keras's backend has one."""

import contextlib

import keras

# Bytes of features that stay on it where it does not tell how many are free.
_RESIDENT_BYTES = 2**30


def has_accelerator():
    """Whether Keras's backend computes on something else than processors."""
    try:
        devices = keras.distribution.list_devices()
    except (AttributeError, NotImplementedError):
        return False
    return any(not device.startswith("cpu") for device in map(str, devices))


def resident_bytes():
    """How many bytes of features may stay on it, from one pass to the next.

    Half of what is free: what is computed of them needs some too.

    Returns:
        Integer; 0 without an accelerator.
    """
    if not has_accelerator():
        return 0
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" in stats:
            return (stats["bytes_limit"] - stats.get("bytes_in_use", 0)) // 2
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.mem_get_info()[0] // 2
    return _RESIDENT_BYTES


@contextlib.contextmanager
def float32_products():
    """Products of matrices that keep all of float32's digits on a GPU.

    Without it those of JAX and TensorFlow keep ten bits of each factor (TF32):
    cosines of 512 features were off by 6e-5 on an NVIDIA H200.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "tensorflow" and has_accelerator():
        import tensorflow as tf

        config = tf.config.experimental
        was_on = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(was_on)
    else:
        # PyTorch keeps them, unless its user says otherwise.
        yield
