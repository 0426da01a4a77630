import os

import numpy as np
import pytest

from simclr_keras import data
from tests.data.pictures import picture


@pytest.fixture
def photos(tmp_path):
    """Twelve photos of two classes, of several sizes."""
    folder = tmp_path / "photos"
    for k in range(12):
        path = folder / "ab"[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(20 + k, 30, seed=k).save(path)
    return folder


def batches(images, **kwargs):
    dataset = data.training_dataset(images, 5, seed=3, **kwargs)
    return list(dataset.repeat(3).as_numpy_iterator())


def test_is_the_set_that_it_was_made_of(photos, tmp_path):
    cache = tmp_path / "new" / "cache"
    plain = data.load_image_folder(photos, (16, 18), in_memory=False).train
    cached = data.load_image_folder(photos, (16, 18), cache_dir=cache).train

    for ours, theirs in zip(cached.arrays(), plain.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        batches(cached, with_labels=True),
        batches(plain, with_labels=True),
        strict=True,
    ):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert list(cached.paths) == list(plain.paths)
    # A run may be resumed with or without it.
    assert cached.fingerprint() == plain.fingerprint()
    assert cached.fingerprint(contents=True) == plain.fingerprint(contents=True)
    # By which `extract_features` knows its features again.
    assert cached.origin() == plain.origin()


def test_later_runs_decode_nothing(photos, tmp_path, monkeypatch):
    first = data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    written = file.stat().st_mtime_ns
    # Contents that are no image any more, of the same size and time.
    for path in photos.rglob("*.jpg"):
        before = path.stat()
        path.write_bytes(b"\xff\xd8\xff" + b"x" * (before.st_size - 3))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(
        again.train.arrays()[0], first.train.arrays()[0]
    )
    assert file.stat().st_mtime_ns == written


@pytest.mark.slow
def test_is_written_anew_for_other_images(photos, tmp_path):
    def load(size=16, **kwargs):
        source = data.load_image_folder(
            photos, size, cache_dir=tmp_path / "cache", **kwargs
        )
        plain = data.load_image_folder(photos, size, **kwargs)
        for ours, theirs in zip(source.train.arrays(), plain.train.arrays()):
            np.testing.assert_array_equal(ours, theirs)
        return len(list((tmp_path / "cache").iterdir()))

    assert load() == 1
    assert load(17) == 2
    assert load(channels=1) == 3
    assert load(test_fraction=0.5) == 5  # Both sets.
    # Another image under the same name, whatever its size in bytes.
    path = photos / "a" / "0.jpg"
    size = path.stat().st_size
    picture(20, 30, seed=99).save(path)
    content = path.read_bytes()
    path.write_bytes(content + b"\0" * (size - len(content)))
    os.utime(path, ns=(1, 1))
    assert load() == 6


def test_a_damaged_cache_is_replaced(photos, tmp_path):
    first = data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
    expected, _ = first.train.arrays()
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    for damaged in (
        b"",
        content[:1000],
        b"\0" * len(content),
        b"PK\x03\x04" + content[4:],
        content.replace(b"'fortran_order': False", b"'fortran_order': True "),
    ):
        file.write_bytes(damaged)
        again = data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(again.train.arrays()[0], expected)
        assert file.read_bytes() == content
    assert list((tmp_path / "cache").iterdir()) == [file]


def test_nothing_is_left_of_a_write_that_failed(photos, tmp_path):
    (photos / "a" / "0.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(Exception, match=r"0\.jpg"):
        data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    with pytest.warns(UserWarning, match="Left out 1 of 12"):
        source = data.load_image_folder(
            photos, 16, cache_dir=tmp_path / "cache", on_error="skip"
        )
    assert source.train.num_images == 11
    assert batches(source.train)[0].shape == (5, 16, 16, 3)


def test_a_disk_that_is_too_small(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda folder: type("", (), {"free": 9000})
    )
    with pytest.raises(OSError, match="9,216 bytes, and 9,000 are free"):
        data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")


def test_what_excludes_it(photos, tmp_path):
    with pytest.raises(ValueError, match="mutually exclusive"):
        data.load_image_folder(
            photos, 16, in_memory=True, cache_dir=tmp_path / "cache"
        )
    cached = data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="no `cache_dir`"):
        batches(cached.train, crop=_crop())


def _crop():
    from simclr_keras.augmentation import RandomResizedCrop

    return RandomResizedCrop(8, 8, seed=0)


def test_a_link_that_leads_elsewhere(photos, tmp_path):
    other = tmp_path / "other"
    for path in photos.rglob("*.jpg"):
        copy = other / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        copy.write_bytes(content)
        os.utime(copy, ns=(1, 1))
        os.utime(path, ns=(1, 1))
    link = tmp_path / "link"
    for folder in (photos, other):
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        data.load_image_folder(link, 16, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_unreadable_files_are_named(photos, tmp_path):
    (photos / "a" / "0.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"^Cannot read.*0\.jpg"):
        data.load_image_folder(photos, 16, cache_dir=tmp_path / "cache")


def test_a_cache_dir_that_is_a_file(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="`cache_dir`"):
        data.load_image_folder(photos, 16, cache_dir=tmp_path / "file")
