import pretraining
import pytest
import recipes
from PIL import Image


def test_a_flag_takes_the_place_of_the_recipes_value():
    config = recipes.resolve("cifar10", {"depth": 50})
    assert config["depth"] == 50
    assert config["image_size"] == 20
    assert config["recipe"] == "cifar10"


def test_other_views_are_evaluated_in_their_size():
    assert recipes.resolve("cifar10", {})["evaluation_size"] == 32
    config = recipes.resolve("cifar10", {"image_size": 64})
    assert config["evaluation_size"] is None
    values = {"image_size": 64, "evaluation_size": 80}
    assert recipes.resolve("cifar10", values)["evaluation_size"] == 80
    # A run that is resumed has its own.
    saved = recipes.resolve("cifar10", {})
    assert recipes.resolve("", {"image_size": 20}, saved) == saved


def test_images_are_stored_as_large_as_they_are_evaluated():
    recipes.resolve("imagenet", {"evaluation_size": 256})
    with pytest.raises(ValueError, match=r"--source_size.*256 and 288"):
        recipes.resolve("imagenet", {"evaluation_size": 288})


def test_flags_that_a_source_passes_over():
    off = {"crop_while_decoding": False, "as_stored": False, "cache_dir": ""}
    config = recipes.resolve("imagenet", {"dataset": "digits", **off})
    with pytest.raises(ValueError, match="--labels is not for"):
        recipes.resolve("digits", {"labels": False})
    with pytest.raises(ValueError, match="--channels is not for"):
        recipes.resolve("digits", {"channels": 1})
    # A run that began with it, before that was refused, goes on with it.
    saved = {**config, "channels": 1}
    assert recipes.resolve("", {"channels": 1}, saved) == saved


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_every_value(name):
    recipe = recipes.RECIPES[name]
    assert set(recipe) == set(recipes.KEYS)
    for key, (kind, _) in recipes.KEYS.items():
        assert recipe[key] is None or type(recipe[key]) is kind, key


def test_epochs_take_the_place_of_a_recipes_steps():
    assert recipes.resolve("small", {})["steps"] > 0
    config = recipes.resolve("small", {"epochs": 3})
    assert recipes.count_epochs(config, 10) == 3


@pytest.mark.parametrize(
    ("num_images", "k"), [(1, 1), (400, 20), (40_000, 200), (10**6, 200)]
)
def test_few_of_few_images_vote(num_images, k):
    assert recipes.count_neighbors({"knn_k": None}, num_images) == k
    assert recipes.count_neighbors({"knn_k": 7}, num_images) == 7


def test_steps_are_rounded_up_to_epochs():
    assert recipes.count_epochs({"steps": None, "epochs": 7}, 10) == 7
    assert recipes.count_epochs({"steps": 41, "epochs": 7}, 10) == 5


@pytest.mark.parametrize(
    ("image_size", "evaluation_size", "expected"),
    [(20, 32, 32), (24, 16, 24), (14, None, 16)],
)
def test_a_folder_is_read_at_the_size_that_is_evaluated(
    tmp_path, image_size, evaluation_size, expected
):
    for k in range(4):
        Image.new("RGB", (40, 40), (k, 0, 0)).save(tmp_path / f"{k}.png")
    values = {
        "image_folder": str(tmp_path),
        "labels": False,
        "image_size": image_size,
        "evaluation_size": evaluation_size,
    }
    config = recipes.resolve("cifar10", values)
    data = pretraining.load_data(config)
    assert data.image_shape == (expected, expected, 3)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["", ".hidden"], None),
        (["all"], None),
        (["a", "empty"], None),
        (["a", "b"], ("a", "b")),
    ],
)
def test_images_of_one_class_alone_are_all_trained_on(
    tmp_path, folders, expected
):
    for k, name in enumerate(folders):
        (tmp_path / name).mkdir(exist_ok=True)
        for n in range(4 if name != "empty" else 0):
            image = Image.new("RGB", (20, 20), (k, n, 0))
            image.save(tmp_path / name / f"{n}.png")
    config = recipes.resolve("small", {"image_folder": str(tmp_path)})
    data = pretraining.load_data(config)
    assert data.class_names == expected
    assert (data.test is None) == (expected is None)
    assert data.train.num_images == (4 if expected is None else 6)
