"""Pretraining where nothing is known but the images."""

import json

import keras
import numpy as np
import pretrain
import pytest
from absl import flags
from absl.testing import flagsaver


@pytest.mark.slow
def test_a_flat_folder_of_images(tmp_path, capsys):
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(24):
        # Sizes differ, as those of photos do.
        height, width = rng.integers(10, 20, 2)
        image = rng.integers(0, 256, (height, width, 3), "uint8")
        keras.utils.save_img(photos / f"{index}.png", image, scale=False)
    folder = tmp_path / "run"
    with flagsaver.flagsaver():
        flags.FLAGS(
            [
                "pretrain.py",
                "--recipe=cifar10",
                f"--image_folder={photos}",
                f"--run_dir={folder}",
                "--image_size=8",
                "--width_multiplier=0.03125",
                "--batch_size=8",
                "--epochs=2",
            ]
        )
        pretrain.main(["pretrain.py"])
    assert "\nNo accuracies" in capsys.readouterr().out
    results = json.loads((folder / "results.json").read_text())
    assert results["accuracy"] == {}
    assert "No accuracies" in results["note"]
    assert np.isfinite(results["last_epoch"]["loss"])
    # Every image is trained on: without labels there is nothing to hold out.
    assert results["num_train_images"] == 24
    assert results["steps"] == 6
    assert (folder / "representations.png").exists()
    encoder = keras.saving.load_model(folder / "encoder.keras")
    assert encoder(np.zeros((1, 8, 8, 3))).shape == (1, 16)
