"""Passes over data that end with their last batch."""


def without_autotuning(dataset):
    """A `tf.data.Dataset` that is not autotuned.

    The thread that does it sleeps for as long as the pass has taken so far, up
    to a minute, and may miss that the pass is over: the end of an epoch then
    waits for it, and an epoch of five seconds can take ten. Without it,
    `tf.data.AUTOTUNE` is as many calls at a time as there are cores, which was
    no slower where it was measured.

    Args:
        dataset: `tf.data.Dataset`.

    Returns:
        A `tf.data.Dataset` of the same elements.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
