"""The shape of what an encoder returns."""


def check_representations(shape):
    """Raises a `ValueError` unless a shape is that of representations (B, F).

    Args:
        shape: Shape of an encoder's output, a sequence.
    """
    shape = tuple(shape)
    if len(shape) != 2 or not isinstance(shape[-1], int):
        raise ValueError(
            "The encoder's output must be representations (B, F). "
            f"Received an encoder whose output has the shape {shape}. The "
            "encoder must end in a pooling layer; add "
            "keras.layers.GlobalAveragePooling2D(), or pass "
            "simclr_keras.encoders.BackboneEncoder(encoder)."
        )
