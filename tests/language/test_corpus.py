"""A corpus is read in rows that go on from chunk to chunk."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate._text import Source, learn_tokenizer
from tidegate.language._corpus import Rows, Tokens, read_corpus


@given(length=st.integers(2, 400), batch=st.integers(1, 40), steps=st.integers(1, 60))
def test_rows_are_parts_of_the_text_in_order(length, batch, steps):
    rows = Rows(Tokens(np.arange(length, dtype=np.uint16), length), batch, steps)
    assert rows.batch <= batch
    assert rows.steps <= steps
    assert rows.chunks >= 1
    chunks = [rows.chunk(number) for number in range(-(-rows.length // rows.steps))]
    tokens = torch.cat([tokens for tokens, _ in chunks])
    targets = torch.cat([targets for _, targets in chunks])
    assert torch.equal(targets, tokens + 1)
    expected = np.arange(rows.batch * rows.length).reshape(rows.batch, rows.length)
    assert (tokens.T.numpy() == expected).all()


@given(number=st.integers(0, 200), seed=st.integers(0, 5))
def test_an_epoch_begins_with_nothing_read_and_moves_its_chunks(number, seed):
    rows = Rows(Tokens(np.arange(1000), 1000), 3, 7)
    tokens, targets, fresh = rows.drawn(number, seed)
    assert fresh == (number % rows.chunks == 0)
    assert tokens.shape == targets.shape == (7, 3)
    again, *_ = rows.drawn(number, seed)
    assert torch.equal(tokens, again)
    if not fresh:
        before, *_ = rows.drawn(number - 1, seed)
        assert torch.equal(before[-1] + 1, tokens[0])


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_the_end_is_held_back_at_the_end_of_a_line(tmp_path, kind):
    text = "".join(f"line {number} of the sea\n" for number in range(100))
    tokenizer = learn_tokenizer(kind, [text])
    corpus = read_corpus(Source.of(text), 0.25, tokenizer, tmp_path)
    first, last = (tokenizer.decode(part.tokens) for part in (corpus.training, corpus.validation))
    assert first + last == text
    assert first.endswith("\n")
    assert len(last) == corpus.validation.characters
    assert 0.24 <= len(last) / len(text) <= 0.26
    assert corpus.training.tokens.dtype == np.uint8
    assert (tmp_path / "training").stat().st_size == len(corpus.training)


def test_a_corpus_is_told_from_others(tmp_path):
    tokenizer = learn_tokenizer("bytes", [])
    texts = ["a sea of words", "a sea of wordz", "a sea of words."]
    prints = {
        read_corpus(Source.of(text), 0.0, tokenizer, tmp_path).fingerprint() for text in texts
    }
    assert len(prints) == 3
