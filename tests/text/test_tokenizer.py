"""Text becomes tokens and comes back as it was."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate._text import KINDS, Source, learn_tokenizer, normalizer, tokenizer_from
from tidegate._text._words import JOINER, WordDecoder, cut
from tidegate.errors import InputError

CORPUS = (
    "آب دریا بالا آمد؛ آب دریا پایین رفت.\nمی‌روم و نمی‌آیم\n"
    "The tide comes in -- the tide's out.\n\n  नमस्ते\tcafé 🌊🌊\n"
)
LOSSLESS = ("bytes", "subwords")
# What is hard to cut: blanks of all kinds, joiners, marks, quotes, halves of words.
HARD = st.text(st.sampled_from("ab \n\t.,'’\u200c\u2060\u00a0é\u0301ىیकि🌊_-\r\u2028"))


@pytest.fixture(scope="module", params=list(KINDS))
def tokenizer(request):
    if request.param == "subwords":
        pytest.importorskip("tokenizers")
    return learn_tokenizer(request.param, [CORPUS], 300 if request.param == "subwords" else None)


def test_what_was_learnt_from_comes_back(tokenizer):
    assert tokenizer.decode(tokenizer.encode(CORPUS)) == CORPUS


@settings(max_examples=50)
@given(text=st.text() | HARD)
def test_any_text_comes_back_where_nothing_is_unknown(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int64
    assert ((tokens >= 0) & (tokens < tokenizer.size)).all()
    if tokenizer.kind in LOSSLESS or tokenizer.unknown not in tokens:
        assert tokenizer.decode(tokens) == text


@given(text=st.text() | HARD)
def test_words_lose_no_blank(text):
    words = list(cut(text))
    decoder = WordDecoder(words)
    assert "".join(map(decoder.feed, range(len(words)))) == text


def test_words_are_what_a_reader_calls_words():
    assert list(cut("می‌روم، آن‌ها نمی‌آیند.")) == [
        "می‌روم",
        JOINER + "،",
        "آن‌ها",
        "نمی‌آیند",
        JOINER + ".",
    ]
    assert list(cut("नमस्ते don't")) == ["नमस्ते", "don't"]


@given(text=st.text(max_size=30), cuts=st.lists(st.integers(0, 30)))
def test_characters_know_all_they_have_seen(text, cuts):
    ends = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(ends)]
    tokenizer = learn_tokenizer("characters", chunks)
    assert tokenizer.size == 1 + len(set(text) | {"\n"})
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_facts_make_the_same_tokenizer(tokenizer):
    again = tokenizer_from(tokenizer.facts())
    assert again.size == tokenizer.size
    assert again.boundary == tokenizer.boundary
    assert (again.encode(CORPUS + "?") == tokenizer.encode(CORPUS + "?")).all()


def test_a_line_ends_at_the_boundary(tokenizer):
    assert list(tokenizer.encode("\n")) == [tokenizer.boundary]
    assert tokenizer.decode([tokenizer.boundary]) == "\n"


def test_text_comes_token_by_token(tokenizer):
    decoder, tokens = tokenizer.decoder(), tokenizer.encode(CORPUS)
    assert "".join(decoder.feed(int(token)) for token in tokens) + decoder.end() == CORPUS


@pytest.mark.parametrize("kind", ["characters", "bytes", "words"])
def test_what_is_no_string_is_no_text(kind):
    with pytest.raises(TypeError, match="a text must be a string, not bytes"):
        learn_tokenizer(kind, ["the tide"]).encode(b"tide")


def test_half_a_character_is_held_back():
    decoder = learn_tokenizer("bytes", []).decoder()
    first, second = "é".encode()
    assert (decoder.feed(first), decoder.feed(second)) == ("", "é")
    assert (decoder.feed(first), decoder.end()) == ("", "\ufffd")


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_the_rare_are_unknown(kind):
    tokenizer = learn_tokenizer(kind, ["a a a b b c\n"], vocab_size=4 if kind == "words" else 5)
    assert tokenizer.size <= 5
    assert (tokenizer.encode("a b") > 0).all()
    assert tokenizer.decode(tokenizer.encode("c")) == "<unk>"


def test_persian_letters_have_one_spelling_and_keep_their_joiners():
    assert normalizer("persian")("كتابي مي\u200cخوانم على") == "کتابی می\u200cخوانم علی"
    assert normalizer("nfc")("e\u0301ي") == "éي"
    tokenizer = learn_tokenizer("characters", ["كتابي\n"], normalize="persian")
    assert tokenizer.decode(tokenizer.encode("كتابي")) == "کتابی"


@settings(max_examples=25)
@given(text=HARD, size=st.integers(1, 20))
def test_pieces_of_a_file_are_the_file(tmp_path_factory, monkeypatch_block, text, size):
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_bytes(text.encode())
    monkeypatch_block(size)
    chunks = list(Source.of(path).chunks())
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(chunks) == lines
    assert all(chunk.endswith("\n") for chunk in chunks[:-1])
    assert "".join(Source.of("\n" + text).chunks()) == "\n" + text


@pytest.fixture(scope="module")
def monkeypatch_block():
    patch = pytest.MonkeyPatch()
    yield lambda size: patch.setattr("tidegate._text._source._BLOCK", size)
    patch.undo()


def test_a_line_without_end_is_cut_at_a_blank(monkeypatch):
    monkeypatch.setattr("tidegate._text._source._BLOCK", 8)
    monkeypatch.setattr("tidegate._text._source._LONGEST_LINE", 20)
    text = "one two three four five six seven eight " + "x" * 40
    chunks = list(Source.of(text).chunks())
    assert "".join(chunks) == text
    assert len(chunks) > 2


@pytest.mark.parametrize(
    ("content", "byte", "value"),
    [(b"abc\xffdef", 3, "ff"), (b"ok\n" * 9 + b"\xc3(", 27, "c3"), (b"end \xe2\x82", 4, "e2")],
)
@pytest.mark.parametrize("block", [1, 2, 5, 2**20])
def test_bytes_that_are_no_text_are_named(tmp_path, monkeypatch, content, byte, value, block):
    monkeypatch.setattr("tidegate._text._source._BLOCK", block)
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"not UTF-8 text: byte {byte} is 0x{value}; save it"):
        list(Source.of(path).chunks())


def test_a_mark_of_byte_order_is_no_text(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert list(Source.of(str(tmp_path / "c.txt")).chunks()) == ["abc"]


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(
        ValueError, match="tokens must be one of characters, bytes, words, subwords"
    ):
        learn_tokenizer("letters", [])
    with pytest.raises(ValueError, match="vocab_size must be a whole number, at least 257 for"):
        learn_tokenizer("subwords", [], 256)
    with pytest.raises(ValueError, match="normalize must be None, 'nfc' or 'persian'"):
        learn_tokenizer("bytes", [], normalize="arabic")
    with pytest.raises(InputError, match="tokenizer of the model is damaged"):
        tokenizer_from({"kind": "characters", "normalize": None, "alphabet": "no line's end"})
