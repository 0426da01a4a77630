"""What a run is made of: versions, configuration, data; written and compared.

A run that is resumed on other images, by another version or with an edited
configuration is another run, and nothing in its results would show it.
"""

import re

import recipes
from report import describe_environment

NAME = "made_of.json"
# Of Python alone what is learned does not depend on.
_VERSIONS = ("simclr_keras", "keras", "tensorflow")


def describe(config, data):
    """What a run is made of, as JSON can hold it.

    Args:
        config: Dictionary, the run's configuration.
        data: `ImageData`.
    """
    versions = describe_environment()["versions"]
    parts = {"train": data.train, "test": data.test}
    return {
        "versions": {name: versions[name] for name in _VERSIONS},
        "config": config,
        "data": {
            "class_names": data.class_names and list(data.class_names),
            **{
                name: part.fingerprint(bool(config.get("check_contents")))
                for name, part in parts.items()
                if part is not None
            },
        },
    }


def differences(before, now):
    """What differs, a list of lines.

    Args:
        before, now: As `describe` gives them, when the run began and now. What
            may change when a run is resumed may differ.
    """
    config = {k: v for k, v in now["config"].items() if not _is_free(k)}
    now = {**now, "config": config}
    before = {
        **before,
        # What has become a choice later is not compared.
        "config": {k: v for k, v in before["config"].items() if k in config},
    }
    before["config"] = {**config, **before["config"]}
    return list(_compare(before, now, ""))


def _is_free(key):
    return key in recipes.FREE_TO_CHANGE


def _compare(before, now, place):
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _compare(
                before.get(key), now.get(key), f"{place}.{key}".lstrip(".")
            )
    elif before != now and _is_digest(before) and _is_digest(now):
        yield f"{place}: others than when it began, by names, sizes or contents"
    elif before != now:
        yield f"{place}: {_short(before)} when it began, {_short(now)} now"


def _is_digest(value):
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,}", value)


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]} ... {text[-6:]}"
