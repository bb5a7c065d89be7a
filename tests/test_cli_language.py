"""`tidegate language`: what it writes, what it says, and what bad input gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from language_cases import TEXT
from tidegate.cli import main
from tidegate.errors import InputError
from tidegate.language import LanguageModel

SMALL = ["--hidden", "16", "--steps", "30", "--context", "12", "--batch", "8"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    out = folder / "model.safetensors"
    assert main(["language", "train", str(folder / "corpus.txt"), "--out", str(out), *SMALL]) == 0
    return out


def test_training_writes_a_model_and_says_how_good_it_is(folder, capsys):
    assert main(["language", "train", "corpus.txt", "--out", "new/m.safetensors", *SMALL]) == 0
    said = capsys.readouterr()
    first, second, last = said.out.splitlines()
    assert first.startswith("25 characters, 2,057 parameters; 30 steps in ")
    assert " tokens a second" in first
    assert second.startswith("On the part held back: perplexity ")
    assert last == 'Let it write: tidegate language sample new/m.safetensors --prompt "…"'
    assert said.err.count("bits per character") == 3
    assert os.listdir("new") == ["m.safetensors"]
    assert LanguageModel.load("new/m.safetensors").hidden_size == 16


def test_training_is_kept_until_the_model_is_written(folder, monkeypatch):
    train = ["language", "train", "corpus.txt", "--out", "m", *SMALL, "--checkpoint", "state"]

    def crash(*_):
        raise InputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("tidegate.language._model.write_model", crash)
        assert main(train) == 2
    assert sorted(os.listdir()) == ["corpus.txt", "state"]
    monkeypatch.setattr("tidegate.train._Run.step", lambda *_: pytest.fail("trained again"))
    assert main(train) == 0
    assert sorted(os.listdir()) == ["corpus.txt", "m"]


def test_options_reach_the_model(folder):
    arguments = ["--tokens", "words", "--vocab-size", "30", "--hidden", "8", "6", "--untied"]
    arguments += ["--lines", "--normalize", "nfc", "--steps", "2", "--validation", "corpus.txt"]
    assert main(["language", "train", "corpus.txt", "--out", "m", *arguments]) == 0
    model = LanguageModel.load("m")
    assert model.network_.shape.hidden_sizes == (8, 6)
    assert (model.tokens, model.tied, model.lines, model.normalize) == ("words", False, True, "nfc")


def test_a_model_writes(saved, capsys):
    arguments = ["language", "sample", str(saved), "--prompt", "the ", "--length", "40"]
    assert main([*arguments, "--seed", "3"]) == 0
    said = capsys.readouterr()
    model = LanguageModel.load(saved)
    assert said.out == model.sample("the ", 40, temperature=0.8, seed=3) + "\n"
    assert said.err.startswith("40 tokens in ")
    assert main([*arguments, "--beam", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    best = model.beam("the ", 2, 40)
    assert lines == [f"{log_prob:.3f}\t{text!r}" for text, log_prob in best]


def test_a_model_weighs_lines_tokens_and_texts(saved, folder, capsys):
    Path("lines.txt").write_text("the tide\n\nthe sea\n", encoding="utf-8")
    model = LanguageModel.load(saved)
    assert main(["language", "score", str(saved), "lines.txt"]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert rows[0] == ["log_prob", "tokens", "perplexity", "line"]
    assert [row[-1] for row in rows[1:]] == ["the tide", "the sea"]
    assert float(rows[1][0]) == pytest.approx(model.score("the tide").total, abs=1e-3)
    assert said.err.startswith("15 tokens, perplexity ")
    assert main(["language", "score", str(saved), "lines.txt", "--each"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert "".join(row[1] for row in rows) == "the tidethe sea"
    assert [row[0] for row in rows] == ["1"] * 8 + ["3"] * 7
    assert main(["language", "score", str(saved), "lines.txt", "--whole"]) == 0
    bits = model.bits_per_character("the tide\n\nthe sea\n")
    assert f"{bits:.4f} bits per character" in capsys.readouterr().out


def test_what_the_model_does_not_know_is_said(saved, folder, capsys):
    Path("lines.txt").write_text("the tide\nΩ sea\nΩ", encoding="utf-8")
    said = "2 of them <unk>: not in the vocabulary, "
    assert main(["language", "score", str(saved), "lines.txt"]) == 0
    assert capsys.readouterr().err.startswith(f"14 tokens, {said}perplexity ")
    assert main(["language", "score", str(saved), "lines.txt", "--whole"]) == 0
    assert capsys.readouterr().out.startswith(f"16 tokens, {said}log-probability ")
    for prompt, notes in (("Ω", 1), ("the", 0)):
        assert main(["language", "sample", str(saved), "--prompt", prompt, "--length", "2"]) == 0
        assert capsys.readouterr().err.count("note: the prompt has what the model") == notes


def test_a_file_of_windows_is_read_as_any_other(saved, folder, capsys):
    said = []
    for name, content in {
        "unix.txt": b"the tide\nthe sea\n",
        "windows.txt": b"\xef\xbb\xbfthe tide\r\nthe sea\r\n",
    }.items():
        Path(name).write_bytes(content)
        for option in (["--each"], ["--whole"]):
            assert main(["language", "score", str(saved), name, *option]) == 0
        assert main(["inspect", str(saved), "--input", name, "--out", "page.html"]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1]


def test_a_page_needs_a_text(saved, folder, capsys):
    for content, sentence in {
        b"": "text.txt is empty",
        b"\n": "text.txt is an empty line",
        b"sea \xff": "text.txt is not UTF-8 text: byte 4 is 0xff; save it as UTF-8",
    }.items():
        Path("text.txt").write_bytes(content)
        assert main(["inspect", str(saved), "--input", "text.txt", "--out", "page.html"]) == 2
        assert capsys.readouterr().err == f"tidegate: {sentence}\n"
    assert not Path("page.html").exists()
    Path("text.txt").write_text("sea")
    for page in ("text.txt", str(saved)):
        assert main(["inspect", str(saved), "--input", "text.txt", "--out", page]) == 2
        sentence = f"--out would be written over {page}: give it another name"
        assert capsys.readouterr().err == f"tidegate: {sentence}\n"


def test_writing_and_weighing_need_no_torch(saved, folder):
    Path("lines.txt").write_text("the tide\n")
    code = (
        "import sys; sys.modules['torch'] = None; from tidegate.cli import main;"
        "sys.exit(main(['language', 'sample', sys.argv[1], '--length', '5']) "
        "or main(['language', 'score', sys.argv[1], 'lines.txt']))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\tthe tide\n")


BAD = {
    "not there": (None, [], "corpus.txt: there is no such file"),
    "empty": (b"", [], "corpus.txt has 0 tokens, too few to learn from"),
    "one token": (b"x", [], "corpus.txt has 1 token, too few to learn from"),
    "the same token": (b"x" * 50, [], "corpus.txt has the token 'x' alone: there is nothing to"),
    "latin-1": ("Köln".encode("latin-1"), [], "corpus.txt is not UTF-8 text: byte 1 is 0xf6; save"),
    "too large": (
        TEXT.encode(),
        ["--hidden", "900000"],
        "a network of 4,860,027,900,025 parameters (vocabulary 25, embedding 900,000, hidden",
    ),
    "small vocabulary": (
        TEXT.encode(),
        ["--tokens", "subwords", "--vocab-size", "9"],
        "vocab_size must be a whole number, at least 257 for subwords, got 9",
    ),
    "a folder": (TEXT.encode(), ["--out", "."], "--out must be a file, and . is a folder"),
    "the corpus as the model": (
        TEXT.encode(),
        ["--out", "../{}/corpus.txt"],
        "--out would be written over corpus.txt: give it another name",
    ),
    "the model as the checkpoint": (
        TEXT.encode(),
        ["--out", "m", "--checkpoint", "m"],
        "--out would be written over m: give it another name",
    ),
    "the corpus as the checkpoint": (
        TEXT.encode(),
        ["--checkpoint", "corpus.txt"],
        "--checkpoint would be written over corpus.txt: give it another name",
    ),
    "other cells": (
        TEXT.encode(),
        ["--cell", "lstm", "--lines"],
        "lines is for cell='gru' and 'mingru', not for 'lstm'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_one_sentence_and_writes_nothing(folder, capsys, what):
    content, arguments, sentence = BAD[what]
    arguments = [argument.format(folder.name) for argument in arguments]
    Path("corpus.txt").unlink()
    if content is not None:
        Path("corpus.txt").write_bytes(content)
    before = sorted(os.listdir())
    out = [] if "--out" in arguments else ["--out", "out/m.safetensors"]
    try:
        code = main(["language", "train", "corpus.txt", *out, "--steps", "3", *arguments])
    except SystemExit as exit:
        code = exit.code
    said = capsys.readouterr().err
    assert said.startswith(f"tidegate: {sentence}")
    assert said.count("\n") == 1
    assert code == 2
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", [["sample"], ["score"]])
def test_a_bad_model_gets_one_sentence(folder, capsys, command):
    arguments = [
        "language",
        *command,
        "corpus.txt",
        *(["corpus.txt"] if "score" in command else []),
    ]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("tidegate: corpus.txt cannot be read as a model")
    assert said.count("\n") == 1


def test_a_file_without_text_has_no_score(saved, folder, capsys):
    Path("lines.txt").write_text("\n\n")
    assert main(["language", "score", str(saved), "lines.txt"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "tidegate: lines.txt has no text to score\n")
