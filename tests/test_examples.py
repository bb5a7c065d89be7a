"""Every example in a docstring or in the documentation runs and gives what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import tidegate

PACKAGE = Path(tidegate.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    if name.endswith((".sktime", ".ray")):
        pytest.importorskip(name.rpartition(".")[2])
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_examples_of_a_page(path):
    assert doctest.testfile(str(path), module_relative=False).failed == 0
