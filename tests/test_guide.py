"""The pages of the guide run and print what they show; the Persian ones have the same code."""

import io
import os
import re
import sys
import tokenize
from pathlib import Path

import pytest

for package in ("torch", "pandas", "cyclopts"):
    pytest.importorskip(package)

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS))

from run import BLOCK, run  # noqa: E402

ENGLISH = sorted((DOCS / "guide").glob("*.md"))
PERSIAN = sorted(set((DOCS / "fa").glob("*.md")))
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
PERSIAN_LETTERS = re.compile("[آ-ی]{3}")
OPEN_PLURALS = re.compile(r"[آ-ی] (?:ها|های|هایی|ای)[ ،.؛:]|\bن?می [آ-ی]")
TRANSLATED = [path for path in PERSIAN if path.stem not in ("index", "glossary")]


def read(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_page_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    (tmp_path / "docs").symlink_to(DOCS)
    assert run(read(page)) == read(page)


def code(page: str) -> list[tuple]:
    """Tokens and output of a page's blocks, without comments and without what strings say."""
    blocks = []
    for source, output in BLOCK.findall(page):
        tokens = [
            (token.type, "" if token.type == tokenize.STRING else token.string)
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type not in (tokenize.COMMENT, tokenize.NL)
        ]
        blocks.append((tokens, output))
    return blocks


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.stem)
def test_a_persian_page_has_the_code_of_the_english_one(page):
    assert code(read(page)) == code(read(DOCS / "guide" / page.name))


def test_every_page_is_there_in_both_languages():
    assert [page.name for page in TRANSLATED] == [page.name for page in ENGLISH]


def test_the_same_questions_are_answered_from_the_same_pages_in_both_languages():
    links = re.compile(r"\]\((?:\.\./|guide/)?([\w-]+)\.md")
    asked = [
        [links.findall(answer) for answer in re.split(r"^\*\*", page, flags=re.MULTILINE)[1:]]
        for page in (read(DOCS / "index.md"), read(DOCS / "fa" / "index.md"))
    ]
    assert len(asked[0]) > 10
    assert all(asked[0])  # no answer without a page that shows it
    assert asked[0] == asked[1]


@pytest.mark.parametrize("page", [*ENGLISH, *TRANSLATED], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_page_has_a_small_picture_that_is_described(page):
    pictures = PICTURE.findall(read(page))
    assert pictures
    for words, path in pictures:
        assert len(words) > 40
        assert PERSIAN_LETTERS.search(words) is not None or page in ENGLISH
        assert 500 < (page.parent / path).stat().st_size < 60_000


@pytest.mark.parametrize("page", PERSIAN, ids=lambda page: page.stem)
def test_persian_is_written_with_persian_letters(page):
    text = BLOCK.sub("", read(page))
    assert not set("يىكۀ٠١٢٣") & set(text)
    assert not OPEN_PLURALS.findall(text)  # «کتاب ها» for «کتاب‌ها», and the like
