"""The examples of docs/extending.md, and what replicas make of them.

    python -m tests.extending OUTPUT EXAMPLE [EXAMPLE ...]

trains examples in float64, on one device and on two replicas, and saves their
losses and weights.
"""

import pathlib
import re
import sys

import keras
import numpy as np

DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
# The headings of what is asked for by name.
SHARED = "Extending"
SUPCON = "Supervised contrastive loss"
BYOL = "A predictor and a moving-average target (BYOL)"
VICREG = "A loss without negatives (VICReg)"


def sections():
    """Dictionary: the blocks of code under each heading that has any."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = {}
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE):
        heading, _, rest = section.partition("\n")
        blocks = re.findall(r"```python\n(.*?)```", rest, flags=re.DOTALL)
        if blocks:
            found[heading] = blocks
    return found


def run(block, namespace, heading):
    """Runs a block; a traceback names the heading that it stands under."""
    exec(compile(block, f"{DOCUMENT.name}: {heading}", "exec"), namespace)


def definitions(*headings):
    """What the shared lines and some examples define; nothing is trained."""
    code = sections()
    namespace = {"__name__": "extending"}
    for heading in (SHARED, *headings):
        for block in code[heading]:
            # A class or a function comes first, then what is made of it.
            definition = re.split(r"^(?:model|head) = ", block, flags=re.M)[0]
            run(definition, namespace, heading)
    return namespace


def train(example, strategy):
    """Three steps of an example; the last batch is not even.

    Returns:
        Dictionary of arrays: "loss", and every variable by number and path.
    """
    from simclr_keras import SimCLRModel, distribution

    names = definitions(example)
    keras.utils.clear_session()  # so that paths are the same each time
    keras.utils.set_random_seed(0)
    with strategy.scope():
        encoder = distribution.synchronize_batch_norm(names["encoder"]())
        make = names["BYOL"] if example == BYOL else SimCLRModel
        model = make(encoder, augmentation=names["augmentation"]())
        loss = None
        if example == SUPCON:
            loss = names["SupConLoss"](0.3)
        elif example == VICREG:
            loss = names["vicreg"]
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    history = model.fit(
        names["images"][:31],
        names["labels"][:31] if example == SUPCON else None,
        batch_size=12,
        shuffle=False,
        verbose=0,
    )
    arrays = {"loss": np.array(history.history["loss"])}
    for number, variable in enumerate(model.variables):
        arrays[f"{number}/{variable.path}"] = variable.numpy()
    return arrays


def main(output, *examples):
    import tensorflow as tf

    keras.config.set_floatx("float64")
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategies = {
        "one": tf.distribute.get_strategy(),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    arrays = {}
    for example in examples:
        for name, strategy in strategies.items():
            for key, value in train(example, strategy).items():
                arrays[f"{example}/{name}/{key}"] = value
    np.savez(output, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
