"""The suite on small data sets of the same kinds."""

import json

import keras
import numpy as np
import pytest
import transfer_suite

tfds = pytest.importorskip("tensorflow_datasets")


class SmallSuite(tfds.core.GeneratorBasedBuilder):
    """Images of several sizes; what they show is in their colors."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                    "labels": tfds.features.Sequence(
                        tfds.features.ClassLabel(names=["r", "g", "b"])
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {
            name: self._generate_examples(count, seed)
            for seed, (name, count) in enumerate(
                {"train": 90, "validation": 30, "test": 60}.items()
            )
        }

    def _generate_examples(self, count, seed):
        rng = np.random.default_rng(seed)
        for i in range(count):
            shown = rng.integers(0, 2, 3)
            # The last class is rare, and looks like the one before.
            is_last = i % 10 == 9
            shown[0] |= is_last
            label = 2 if is_last else int(shown[0])
            size = (9 + i % 3, 8 + i % 2, 3)
            image = 150 * shown + rng.integers(0, 50, size)
            yield (
                i,
                {
                    "image": image.astype("uint8"),
                    "label": label,
                    "labels": np.flatnonzero(shown),
                },
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared data and a saved encoder."""
    place = tmp_path_factory.mktemp("suite")
    config = tfds.download.DownloadConfig(num_shards=3)
    builder = SmallSuite(data_dir=place / "tfds")
    builder.download_and_prepare(download_config=config)
    keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 1, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    ).save(place / "encoder.keras")
    return place


def run(place, monkeypatch, output, *arguments):
    small = "small_suite"
    tasks = [
        transfer_suite.Task("Food-101", small, "train", "test", "accuracy"),
        transfer_suite.Task("Pets", small, "train", "test", "mean per class"),
        transfer_suite.Task(
            "VOC2007", small, "train+validation", "test", "11-point mAP"
        ),
        transfer_suite.Task("DTD", "no_such_set", "train", "test", "accuracy"),
        transfer_suite.Task("Birdsnap", None, "train", "test", "accuracy"),
    ]
    monkeypatch.setattr(transfer_suite, "TASKS", tasks)
    transfer_suite.main(
        [
            f"--encoder={place / 'encoder.keras'}",
            f"--data_dir={place / 'tfds'}",
            f"--output={output}",
            *arguments,
        ]
    )
    results = json.loads((output / "results.json").read_text())
    return {row["name"]: row for row in results["sets"]}


@pytest.mark.slow
def test_each_set_by_its_own_measure(place, tmp_path, monkeypatch, capsys):
    rows = run(
        place,
        monkeypatch,
        tmp_path / "out",
        "--protocols",
        "linear",
        "fine_tune",
        "--fine_tune_epochs=2",
    )
    assert sorted(rows) == ["Birdsnap", "DTD", "Food-101", "Pets", "VOC2007"]
    linear = {
        name: row["results"] and row["results"]["linear"]
        for name, row in rows.items()
    }
    # A tenth of the images is of a class that looks like another.
    assert linear["Food-101"] == pytest.approx(0.9, abs=0.02)
    assert linear["Pets"] == pytest.approx(2 / 3, abs=0.02)
    # Labels stand beside their own images, or this would be chance.
    assert linear["VOC2007"] > 0.95
    assert linear["DTD"] is None
    assert linear["Birdsnap"] is None
    assert rows["VOC2007"]["results"]["fine_tune"] is None
    assert 0 < rows["Pets"]["results"]["fine_tune"] <= 2 / 3
    assert rows["VOC2007"]["num_train_images"] == 120
    printed = capsys.readouterr().out
    assert "DTD: missing, tfds build no_such_set prepares it" in printed
    assert "Birdsnap: missing, TFDS does not know it" in printed
    lines = (tmp_path / "out/table.md").read_text().splitlines()
    assert len(lines) == 2 + 5
    assert {line.count("|") for line in lines} == {7}


def test_none_is_prepared(place, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(place, monkeypatch, tmp_path / "out", "--sets", "DTD", "Birdsnap")
    assert stop.value.code == 1
    assert "None of the data sets is prepared" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_papers_twelve():
    names = [task.name for task in transfer_suite.TASKS]
    assert len(set(names)) == 12
    known = set(tfds.list_builders(with_community_datasets=False))
    for task in transfer_suite.TASKS:
        if task.tfds_name is not None:
            assert task.tfds_name.split("/")[0] in known
    measures = {task.name: task.measure for task in transfer_suite.TASKS}
    assert measures["VOC2007"] == transfer_suite.MAP
    per_class = {k for k, m in measures.items() if m == "mean per class"}
    assert per_class == {"Aircraft", "Pets", "Caltech-101", "Flowers"}
