"""Every test that the documents name as holding a promise is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGES = [
    page
    for page in [ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if NAMED.search(page.read_text("utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page):
    for file, name in NAMED.findall(page.read_text("utf-8")):
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, (
            f"{page.name} names {file}::{name}, which is not there"
        )


def test_there_are_such_pages():
    assert {"SECURITY.md", "reliability.md"} <= {page.name for page in PAGES}
