"""The documentation is complete, and its links lead somewhere.

`make docs` builds it as a site, which takes an environment of its own. What
the code in it does is in test_readme.py and in tests/backends.
"""

import importlib
import inspect
import pathlib
import pkgutil
import re
import runpy
import sys
import types

import pytest

import simclr_keras

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# What mkdocstrings fills in with a docstring.
ENTRY = re.compile(r"^::: (\S+)$", flags=re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"\[[^]]*\]\[([^]]+)\]")
# Their public names are those that are explained to users: the others serve
# this library's own modules.
CHOSEN = ("simclr_keras.augmentation.functional", "simclr_keras.distribution")

# A docstring, and what griffe is given in its place.
WRITTEN = """A line.

Args:
    a, b,
        c: Three.

Returns:
    A pair: x, y.

Example:
    if x:
        f(x)

Example:
    >>> 1 + 1
    2"""
TRANSLATED = """A line.

Args:
    a, b, c: Three.

**Returns:**

A pair: x, y.

Examples: Example:
    ```python
    if x:
        f(x)
    ```

Examples: Example:
    >>> 1 + 1
    2"""


def entries():
    return [
        name
        for path in sorted((DOCS / "api").glob("*.md"))
        for name in ENTRY.findall(path.read_text(encoding="utf-8"))
    ]


def find(name):
    """The object of a dotted name."""
    found = simclr_keras
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


def public_names():
    """The names in every `__all__`, and all those of modules without one."""
    modules = {simclr_keras}
    modules |= {
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(
            simclr_keras.__path__, f"{simclr_keras.__name__}."
        )
        if info.ispkg
    }
    exported = [getattr(simclr_keras, name) for name in simclr_keras.__all__]
    modules |= set(filter(inspect.ismodule, exported))
    for module in sorted(modules, key=lambda module: module.__name__):
        if module.__name__ in CHOSEN:
            continue
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
            and not name.startswith("_")
        ]
        for name in names:
            yield f"{module.__name__}.{name}"


@pytest.mark.parametrize("name", public_names())
def test_public_names_are_on_an_api_page(name):
    value = find(name)
    page = DOCS / "api" / f"{name.rpartition('.')[2]}.md"
    if inspect.ismodule(value) and page.exists():
        return
    # By whatever name: some are there twice.
    assert any(value is find(entry) for entry in entries()), (
        f"a page of docs/api needs the line `::: {name}`"
    )


def test_api_entries_exist_once():
    names = entries()
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert inspect.getdoc(find(name)), name


@pytest.mark.parametrize("name", simclr_keras.__all__)
def test_the_api_index_has_the_names_of_the_package(name):
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    assert f"[{name}]" in index


def test_all_pages_are_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    _, _, navigation = navigation.partition("\nnav:\n")
    found = re.findall(r"(\S+\.md)$", navigation, flags=re.MULTILINE)
    notebooks = (ROOT / "examples" / "notebooks").glob("*.ipynb")
    assert sorted(found) == sorted(
        [path.relative_to(DOCS).as_posix() for path in PAGES]
        # docs/notebook_pages.py makes these.
        + [f"notebooks/{path.stem}.md" for path in notebooks]
    )


def test_every_file_of_the_examples_is_named():
    folder = ROOT / "examples"
    text = (folder / "README.md").read_text(encoding="utf-8")
    files = {
        path.name
        for path in folder.iterdir()
        if path.suffix in (".py", ".sh", ".html")
    }
    assert set(re.findall(r"`([\w/]+\.(?:py|sh|html))`", text)) == files


def test_the_site_shows_examples_as_code(monkeypatch):
    # What the site is built with need not be there.
    griffe = types.SimpleNamespace(Extension=object)
    monkeypatch.setitem(sys.modules, "griffe", griffe)
    docstrings = runpy.run_path(str(DOCS / "docstrings.py"))
    assert docstrings["translate"](WRITTEN) == TRANSLATED


# --- Links -------------------------------------------------------------------
def prose(path):
    """A document without its code, included files included."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(
        r'^--8<-- "(.+)"$',
        lambda match: (ROOT / match[1]).read_text(encoding="utf-8"),
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", code_without_brackets, text)


def code_without_brackets(match):
    return re.sub(r"[][()]", "", match[0])


def anchors(path):
    """Those of a document's headings, as a forge for code makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return [
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    ]


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *PAGES],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(path):
    text = prose(path)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue  # Elsewhere.
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        assert page.exists(), f"{link} in {path.name}"
        # The site holds what is in docs/ alone.
        assert path.parent == ROOT or DOCS in page.parents, link
        if anchor:
            assert anchor in anchors(page), f"{link} in {path.name}"
    for name in REFERENCE.findall(text):
        assert name in entries(), f"[...][{name}] in {path.name}"
