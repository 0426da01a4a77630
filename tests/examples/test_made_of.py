"""A run is resumed only as what it began as, or by force."""

import json
import shutil

import made_of
import numpy as np
import pretrain  # noqa: F401 - its flags
import pretraining
import pytest
import recipes
import run_folder
from absl import flags
from absl.testing import flagsaver

import simclr_keras
from simclr_keras import data
from tests.data.pictures import picture


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for k in range(12):
        path = folder / f"class {k % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=k).save(path)
    return folder


@pytest.fixture
def begun(photos, tmp_path):
    """A run on the photos that has written what it is made of."""
    values = {
        "image_folder": str(photos),
        "image_size": 16,
        "batch_size": 4,
        "test_fraction": 0.2,
    }
    config = recipes.resolve("digits", values)
    folder = run_folder.RunFolder(str(tmp_path / "run"))
    folder.write_json("config.json", config)
    found = pretraining.load_data({**config, "channels": 1})
    folder.write_json(made_of.NAME, made_of.describe(config, found))
    return folder


def resume(folder, *arguments):
    """What `prepare` gives, or the message of its error."""
    with flagsaver.flagsaver():
        flags.FLAGS(
            ["pretrain.py", f"--run_dir={folder.path}", "--resume", *arguments]
        )
        try:
            return pretraining.prepare()
        except ValueError as error:
            return str(error)


def test_the_same_goes_on(begun, photos):
    *_, began_with = resume(begun)
    assert began_with == json.loads(json.dumps(began_with))
    assert began_with == begun.read_json(made_of.NAME)
    # A longer run, on photos that have moved, evaluated in another way.
    moved = photos.rename(photos.parent / "elsewhere")
    *_, config, found, epochs, _, _ = resume(
        begun,
        f"--image_folder={moved}",
        "--epochs=50",
        "--label_draws=2",
        "--checkpoint_minutes=1",
    )
    assert (epochs, found.train.num_images) == (50, 10)
    assert config["image_folder"] == str(moved)


def replace_one(photos):
    picture(30, 30).save(photos / "class 0" / "0.png")


def add_one(photos):
    picture(seed=99).save(photos / "class 0" / "99.png")


def remove_one(photos):
    (photos / "class 1" / "1.png").unlink()


def rename_a_class(photos):
    (photos / "class 1").rename(photos / "class 2")


def drop_a_class(photos):
    shutil.rmtree(photos / "class 1")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (replace_one, "data.train."),
        (rename_a_class, "class_names: "),
        *(
            pytest.param(change, place, marks=pytest.mark.slow)
            for change, place in (
                (add_one, "num_images: "),
                (remove_one, "num_images: "),
                (drop_a_class, "class_names: "),
            )
        ),
    ],
)
def test_other_data_are_named(change, place, begun, photos):
    change(photos)
    message = resume(begun)
    assert "began with something else" in message
    assert place in message
    assert "--resume=force" in message


def test_force_goes_on_with_what_there_is(begun, photos, capsys):
    add_one(photos)
    *_, began_with = resume(begun, "--resume=force")
    said = capsys.readouterr().out
    assert "Going on, although this differs" in said
    assert "may be among those that are held out now" in said
    begun.write_json(made_of.NAME, began_with)
    assert not isinstance(resume(begun), str)


def test_an_edited_configuration_is_named(begun):
    config = begun.read_config()
    begun.write_json("config.json", {**config, "temperature": 0.7})
    message = resume(begun)
    assert "config.temperature: 0.5 when it began, 0.7 now" in message


@pytest.mark.parametrize("key", ["temperature", "image_size", "seed"])
def test_a_key_that_is_gone_is_the_recipes(key, begun):
    config = begun.read_config()
    del config[key]
    begun.write_json("config.json", config)
    found = resume(begun)
    if config.get(key, recipes.DIGITS[key]) == recipes.DIGITS[key] and (
        key != "image_size"
    ):
        assert not isinstance(found, str)
    else:
        assert f"config.{key}: 16 when it began, 8 now" in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("null", "must hold a dictionary"),
        ('{"recipe": "dig', "is damaged"),
        ("{}", "must name a recipe"),
        ('{"recipe": "mnist"}', "recipe='mnist'"),
    ],
)
def test_a_damaged_configuration_is_told(content, message, begun):
    with open(begun.file("config.json"), "w") as file:
        file.write(content)
    assert message in resume(begun)


def test_another_version_is_named(begun, monkeypatch):
    monkeypatch.setattr(simclr_keras, "__version__", "99.0")
    message = resume(begun)
    assert "versions.simclr_keras: " in message
    assert "'99.0' now" in message


def test_fingerprints_of_files_and_of_their_contents(photos):
    def fingerprint(contents):
        images = data.load_image_folder(photos, 16, in_memory=False).train
        return images.fingerprint(contents)

    names, contents = fingerprint(False), fingerprint(True)
    assert names == fingerprint(False)
    path = photos / "class 0" / "0.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(False) == names  # The same name and size.
    assert fingerprint(True) != contents
    path.rename(path.with_name("00.png"))
    assert fingerprint(False) != names


def test_fingerprints_of_arrays():
    images = np.zeros((4, 8, 8, 3), "uint8")
    one = data.from_arrays(images, [0, 1, 0, 1]).train.fingerprint()
    assert one == data.from_arrays(images, [0, 1, 0, 1]).train.fingerprint()
    assert one != data.from_arrays(images, [1, 0, 0, 1]).train.fingerprint()
    images[2, 3] = 1
    assert one != data.from_arrays(images, [0, 1, 0, 1]).train.fingerprint()
