import keras
import numpy as np
import pytest

from simclr_keras import (
    ProjectionHead,
    SimCLRAugmentation,
    SimCLRModel,
    encoders,
    export_saved_model,
)
from tests.export import models


def resnet():
    return encoders.ResNet18(
        width_multiplier=1 / 16, stem="cifar", input_shape=(None, None, 3)
    )


@pytest.fixture(
    scope="session",
    params=[models.TinyEncoder, pytest.param(resnet, marks=pytest.mark.slow)],
    ids=["tiny", "resnet"],
)
def trained(request):
    """A model with endpoints, none of whose weights are as they started."""
    keras.utils.set_random_seed(0)
    model = SimCLRModel(
        request.param(),
        ProjectionHead(4),
        augmentation=SimCLRAugmentation(16, 16, blur=False),
    )
    models.scramble(model)
    return model


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """Its folder, with what readers must find there in `expected.npz`."""
    folder = tmp_path_factory.mktemp("exported")
    path = export_saved_model(trained, folder / "module")
    images = models.random_images((5, 16, 16, 3))  # Another batch than export's
    endpoints = keras.Model(trained.encoder.input, trained.encoder.endpoints)
    values = {
        f"endpoint_{name}": keras.ops.convert_to_numpy(value)
        for name, value in endpoints(images / 255).items()
    }
    representation = trained.predict(images, verbose=0)
    # In training mode last, and on a copy, which it changes.
    encoder = type(trained.encoder).from_config(trained.encoder.get_config())
    encoder.set_weights(trained.encoder.get_weights())
    np.savez(
        folder / "expected.npz",
        images=images,
        representation=representation,
        projection=trained.projection_head(representation),
        training=encoder(images / 255, training=True),
        **values,
    )
    return path
