"""The language model: it learns, writes, weighs, and is the same with and without torch."""

import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_cases import TEXT, small_model
from tidegate._model_file import read_model
from tidegate._text import Reader
from tidegate.errors import InputError
from tidegate.language import LanguageModel
from tidegate.language._network import Network, Regularisers, Shape
from tidegate.runtime import load

VARIANTS = {
    "characters": {},
    "two sizes": {"hidden_size": (20, 12), "embedding_size": 10},
    "none, lines": {"reset": "none", "lines": True},
    "before, untied": {"reset": "before", "tied": False, "num_layers": 2},
    "bytes": {"tokens": "bytes"},
    "words": {"tokens": "words", "vocab_size": 20, "lines": True},
    "subwords": {"tokens": "subwords", "vocab_size": 280},
    "mingru": {"cell": "mingru", "num_layers": 2, "lines": True},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "rnn": {"cell": "rnn", "embedding_size": 7},
}
_fitted: dict[str, LanguageModel] = {}


def fitted(name: str) -> LanguageModel:
    if name == "subwords":
        pytest.importorskip("tokenizers")
    if name not in _fitted:
        torch.set_num_threads(1)
        _fitted[name] = small_model(**VARIANTS[name]).fit(TEXT)
    return _fitted[name]


@pytest.fixture(params=list(VARIANTS))
def model(request):
    return fitted(request.param)


def test_it_learns(model):
    history = model.history_
    assert np.mean(history.losses[-5:]) < 0.9 * history.losses[0]
    assert 1 < model.perplexity_ < model.tokenizer_.size / 1.5
    assert 0 < model.bits_per_character_ < 4.5
    assert model.tokens_per_second_ > 0


def test_without_torch_it_is_the_same(model):
    tokens = model.reader_.tokens_of("the tide\nand the sea")
    with torch.no_grad():
        scores = model.network_(torch.from_numpy(tokens)[:, None])[:, 0].double()
    ours = model.reader_(tokens)
    # float32 rounding of scores of about ten: 3e-6 at most was measured.
    np.testing.assert_allclose(ours, scores.log_softmax(-1), atol=2e-5)


def test_token_by_token_it_is_the_same(model):
    tokens = model.reader_.tokens_of("the tide\nand the sea")
    stream, whole = model.reader_.stream(), model.reader_(tokens)
    steps = [stream.step(tokens[i : i + 1])[0] for i in range(len(tokens))]
    np.testing.assert_allclose(np.stack(steps), whole, atol=2e-5)


def test_chunks_are_the_whole(model):
    tokens = model.reader_.tokens_of("the tide\nand the sea")
    whole, stream = model.reader_(tokens), model.reader_.stream()
    for begin, end in itertools.pairwise((0, 2, 3, len(tokens) - 1, len(tokens))):
        last = stream.read(tokens[begin:end])
        np.testing.assert_allclose(last[0], whole[end - 1], atol=2e-5)


def test_the_score_of_a_text_is_the_sum_of_its_conditional_scores(model):
    text = "the tide goes out\nand"
    tokens, pieces = model.tokenizer_.encode(text), []
    scored = model.score(text)
    stream = model.reader_.stream()
    log_probs = stream.step(np.array([model.tokenizer_.boundary]))
    for token in tokens:
        pieces.append(log_probs[0, token])
        log_probs = stream.step(np.array([token]))
    np.testing.assert_allclose(scored.log_probs, pieces, atol=2e-5)
    assert scored.total == pytest.approx(sum(pieces), abs=1e-3)
    assert len(scored.tokens) == len(tokens)
    assert model.perplexity(text) == pytest.approx(np.exp(-np.mean(pieces)), rel=1e-4)
    bits = model.bits_per_character(text) * len(text) * np.log(2)
    assert bits == pytest.approx(-sum(pieces), rel=1e-4)


def test_sentences_are_scored_as_if_alone(model):
    sentences = ["the sea", "", "and nobody knows what it is about", "the tide comes in", "x"]
    for together, sentence in zip(model.score(sentences), sentences, strict=True):
        alone = model.score(sentence)
        assert together.tokens == alone.tokens
        np.testing.assert_allclose(together.log_probs, alone.log_probs, atol=2e-5)


def test_long_texts_are_scored_in_pieces(monkeypatch):
    model = fitted("two sizes")
    whole = model.score(TEXT[:300]).log_probs
    monkeypatch.setattr("tidegate._text._reader.CELLS", 17)
    monkeypatch.setattr("tidegate._text._reader._AT_ONCE", 100)
    np.testing.assert_allclose(model.score(TEXT[:300]).log_probs, whole, atol=2e-5)
    several = model.score([TEXT[:300], TEXT[5:40]])
    np.testing.assert_allclose(several[0].log_probs, whole, atol=2e-5)


def test_the_next_token_is_foreseen(model):
    p = model.reader_.next("the tide")
    assert p.sum() == pytest.approx(1)
    stream = model.reader_(model.reader_.tokens_of("the tide"))[-1]
    np.testing.assert_allclose(p, np.exp(stream), atol=1e-5)


def test_a_long_prompt_is_read_in_pieces(model, monkeypatch):
    whole = model.reader_.next(TEXT[:60])
    monkeypatch.setattr("tidegate._text._stream.CELLS", 17)
    np.testing.assert_allclose(model.reader_.next(TEXT[:60]), whole, atol=1e-5)


def test_the_same_seed_writes_the_same_text(model):
    text = model.sample("the ", 30, seed=3)
    assert text == model.sample("the ", 30, seed=3)
    assert text.startswith("the ")
    assert text != model.sample("the ", 30, seed=4)
    assert "<unk>" not in text
    assert "the " + "".join(model.reader_.generate("the ", 30, seed=3)) == text


def test_cold_is_greedy(model):
    cold = model.sample("the ", 20, temperature=0)
    assert cold == model.sample("the ", 20, top_k=1, seed=9)
    assert cold == model.sample("the ", 20, temperature=1e-9, seed=5)
    assert cold == model.beam("the ", width=1, length=20)[0].text


def test_a_text_goes_on_as_it_is_read(model):
    """One seed and length 0 or 1: the state after the prompt is all that matters."""
    assert model.sample("the tide", 0) == "the tide"
    first = model.sample("the tide", 1, temperature=0)
    token = int(np.argmax(_known(model, model.reader_.next("the tide"))))
    tokens = [*model.tokenizer_.encode("the tide"), token]
    assert model.tokenizer_.decode(tokens).startswith(first.rstrip("\ufffd"))


def _known(model, p):
    p = p.copy()
    if model.tokenizer_.unknown is not None:
        p[model.tokenizer_.unknown] = 0
    return p


def test_a_wide_beam_finds_the_best():
    model = fitted("characters")
    size = model.tokenizer_.size
    stream = model.reader_.stream()
    first = stream.read(model.reader_.tokens_of("th"))[0]
    stream = stream.take(np.zeros(size, int))
    second = stream.step(np.arange(size))
    pairs = first[:, None] + second
    pairs[0], pairs[:, 0] = -np.inf, -np.inf  # the unknown
    found = model.beam("th", width=size, length=2)
    assert len(found) == size
    best = np.sort(pairs.ravel())[::-1][:size]
    np.testing.assert_allclose([beam.log_prob for beam in found], best, atol=1e-4)
    text = found[0].text
    assert found[0].log_prob == pytest.approx(model.score(text).log_probs[2:].sum(), abs=1e-4)


def test_gates_come_with_each_token():
    model = fitted("two sizes")
    text, gates = model.sample("the ", 6, seed=1, return_gates=True)
    assert text == model.sample("the ", 6, seed=1)
    assert "".join(gates.tokens) == text
    assert [layer.shape for layer in gates.update] == [(10, 20), (10, 12)]
    assert all(((gate > 0) & (gate < 1)).all() for gate in (*gates.update, *gates.reset))
    again = model.gates(text)
    np.testing.assert_allclose(again.new[1], gates.new[1], atol=1e-6)
    tokens = torch.from_numpy(model.reader_.tokens_of(text))[:, None]
    x = model.network_.embedding(tokens)
    seen = model.network_.cells(x, return_gates=True).gates
    np.testing.assert_allclose(again.update[1], seen.update[1][1:, 0].detach(), atol=1e-5)


def test_gates_of_a_mingru_are_those_of_its_layer():
    model, text = fitted("mingru"), "the tide"
    ours, network = model.gates(text), model.network_
    tokens = torch.from_numpy(model.reader_.tokens_of(text))[:, None]
    seen = network.cells(network.embedding(tokens), return_gates=True).gates
    for layer in range(2):
        np.testing.assert_allclose(ours.new[layer], seen.new[layer][1:, 0].detach(), atol=1e-5)
        np.testing.assert_allclose(
            ours.update[layer], seen.update[layer][1:, 0].detach(), atol=1e-5
        )


def test_the_parameters_are_counted(model):
    counted = sum(parameter.numel() for parameter in model.network_.parameters())
    assert model.network_.shape.parameters == counted


def test_a_network_without_reset_gate_has_none_to_show():
    assert fitted("none, lines").gates("the").reset == ()
    with pytest.raises(ValueError, match="return_gates is for a GRU, not for cell='lstm'"):
        fitted("lstm").gates("the")


@pytest.mark.parametrize("name", ["none, lines", "words", "mingru"])
def test_lines_stand_by_themselves(name):
    model = fitted(name)
    line = "the tide comes in"
    alone = model.score(line).log_probs
    after = model.score("and nobody knows\n" + line).log_probs[-len(alone) :]
    np.testing.assert_allclose(after, alone, atol=2e-5)
    other = fitted("characters")
    after = other.score("and nobody knows\n" + line).log_probs[-len(line) :]
    assert np.abs(after - other.score(line).log_probs).max() > 1e-3


def test_a_saved_model_is_the_same(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = LanguageModel.load(path)
    assert again.get_params() == model.get_params()
    assert again.sample("the", 20) == model.sample("the", 20)
    assert again.perplexity_ == model.perplexity_
    for open_ in (Reader.open, load):
        assert open_(path).sample("the", 20) == model.sample("the", 20)
    tokens = torch.arange(3)[:, None]
    assert torch.equal(again.network_(tokens), model.network_(tokens))


def test_training_is_reproducible_and_drops_what_it_is_told_to():
    arguments = {"steps": 4, "num_layers": 2, "dropout": 0.3, "embedding_dropout": 0.2}
    arguments |= {"recurrent_dropout": 0.2, "weight_dropout": 0.2}
    torch.manual_seed(1)
    first = small_model(**arguments).fit(TEXT).history_.losses
    torch.manual_seed(2)
    assert small_model(**arguments).fit(TEXT).history_.losses == first
    for name in ("dropout", "embedding_dropout", "recurrent_dropout", "weight_dropout"):
        assert small_model(**(arguments | {name: 0.0})).fit(TEXT).history_.losses != first


def test_it_shows_what_it_has_learnt_as_it_learns():
    seen, steps = [], []
    model = small_model(steps=30).fit(
        TEXT, show=seen.append, progress=lambda p: steps.append(p.step)
    )
    assert len(seen) == len(model.history_.validations) == 3
    assert steps == list(range(1, 31))
    assert all(len(glimpse.sample) == 200 for glimpse in seen)
    assert min(glimpse.perplexity for glimpse in seen) == model.perplexity_


def test_it_validates_on_another_text(tmp_path):
    (tmp_path / "validation.txt").write_text("the tide goes out\n" * 5)
    model = small_model().fit(TEXT, tmp_path / "validation.txt")
    # Rows begin with nothing read, so the two differ a little.
    assert model.perplexity_ == pytest.approx(model.perplexity("the tide goes out\n" * 5), rel=0.2)
    with pytest.raises(InputError, match="validation text has 1 token, and 2 are needed"):
        small_model().fit(TEXT, "x")


SCRIPT = """
import sys, time, torch
sys.path.insert(0, sys.argv[3])
from language_cases import TEXT, small_model

torch.set_num_threads(1)
def progress(p):
    print(p.step, flush=True)
    time.sleep(float(sys.argv[2]))
model = small_model(steps=60, dropout=0.2, recurrent_dropout=0.1, num_layers=2)
model.fit(TEXT, progress=progress, checkpoint=sys.argv[1], resume=True)
model.save(sys.argv[1] + ".model")
print(model.history_.losses)
"""


def test_a_killed_training_resumes_to_the_same_bits(tmp_path):
    def start(name, pause):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / name), str(pause)]
        arguments.append(os.path.dirname(os.path.dirname(__file__)))
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)

    whole = start("whole", 0)
    killed = start("killed", 0.01)
    while killed.stdout.readline().strip() != "33":
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (tmp_path / "killed").exists()
    resumed = start("killed", 0)
    first = int(resumed.stdout.readline())
    losses = resumed.communicate()[0].splitlines()[-1]
    assert 20 < first < 40
    assert losses == whole.communicate()[0].splitlines()[-1]
    assert not (tmp_path / "killed").exists()
    one, other = (read_model(tmp_path / f"{name}.model") for name in ("whole", "killed"))
    assert one.facts == other.facts
    for name, tensor in one.tensors.items():
        assert (tensor == other.tensors[name]).all()


BAD = {
    "empty": ("", {}, "the text has 0 tokens, too few to learn from"),
    "one token": ("a", {}, "the text has 1 token, too few to learn from"),
    "a file that is not there": ("texts/poems.txt", {}, "poems.txt: there is no such file"),
    "one character only": ("aaaa" * 9, {}, "the text has the token 'a' alone"),
    "half of a surrogate pair": ("a\ud83d", {}, "the text has U\\+D83D at character 2, half a"),
    "too large": (
        TEXT,
        {"embedding_size": 10**10},
        r"a network of [\d,]+ parameters \(vocabulary \d+, embedding 10,000,000,000, hidden 24\) "
        r"needs about [\d,.]+ GB to train, and this machine has",
    ),
}


STRANGE = {
    "one very long line": "a tide that never ends " * 400,
    "a very long word": "ebb and flow " * 30 + "tide" * 1000,
    "NUL": "\0a\0b\n" * 200,
    "all control characters": "".join(map(chr, range(32))) * 40,
    "four bytes each": "\U0001f30a\U00020000\U0010ffff\n" * 200,
    "marks upon marks": "a" + "\u0301" * 500 + "b\n" * 20,
    "empty lines": "\n" * 300 + "a" + "\r\n" * 300,
    "blanks": " \t\u200c\u2028\ufeff" * 200,
    "each character once": " ".join(map(chr, range(0x4E00, 0x5000))),
}


@pytest.mark.parametrize("tokens", ["characters", "bytes", "words", "subwords"])
@pytest.mark.parametrize("what", STRANGE)
def test_any_text_is_learnt_kept_and_weighed(tmp_path, what, tokens):
    if tokens == "subwords":
        pytest.importorskip("tokenizers")
    text = STRANGE[what]
    model = small_model(tokens=tokens, steps=2, hidden_size=4).fit(text)
    model.save(tmp_path / "model.safetensors")
    kept = load(tmp_path / "model.safetensors")
    assert np.isfinite(model.perplexity(text))
    assert kept.score(text).total == model.score(text).total
    assert kept.sample(length=20, seed=1) == model.sample(length=20, seed=1)


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_learnt_is_refused(what):
    text, arguments, sentence = BAD[what]
    with pytest.raises(InputError, match=sentence):
        small_model(**arguments).fit(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"tokens": "letters"}, "tokens must be one of characters, bytes, words, subwords"),
        ({"cell": "elman"}, "cell must be one of gru, mingru, lstm, rnn, got 'elman'"),
        ({"hidden_size": 0}, "hidden_size must be whole numbers, at least 1, got 0"),
        ({"hidden_size": (8, 8), "num_layers": 3}, "num_layers must be the number of hidden sizes"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
        ({"cell": "lstm", "lines": True}, "lines is for cell='gru' and 'mingru', not for 'lstm'"),
        ({"cell": "mingru", "weight_dropout": 0.1}, "are for cell='gru', not for 'mingru'"),
        ({"cell": "rnn", "hidden_size": (8, 9)}, "hidden_size must be one number for cell='rnn'"),
        ({"epochs": 0}, "epochs must be finite and more than 0"),
        ({"normalize": "arabic"}, "normalize must be None, 'nfc' or 'persian'"),
        ({"validation_share": 1}, "validation_share must be from 0 to below 1, got 1"),
        ({"batch_size": None}, "batch_size must be a whole number, at least 1, got None"),
        ({"clip": -1.0}, "clip must be finite and more than 0, got -1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and at least 0"),
        ({"patience": -3}, "patience must be finite and at least 0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_model(**arguments).fit(TEXT)


def test_nothing_works_before_fit():
    for call in ("sample", "beam"):
        with pytest.raises(ValueError, match="is not fitted yet"):
            getattr(LanguageModel(), call)()


def test_an_empty_text_has_no_perplexity():
    with pytest.raises(InputError, match="the text is empty"):
        fitted("characters").perplexity("")
    assert fitted("characters").score("").tokens == []
    assert fitted("characters").score([]) == []


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([-1], "tokens must be from 0 to .*, but one is -1"),
        ([1, 999], "tokens must be from 0 to .*, but one is 999"),
        ([1.0], "tokens must be whole numbers, not float64"),
    ],
)
def test_a_token_that_is_none_is_named(tokens, sentence):
    reader = fitted("characters").reader_
    for read in (reader, reader.stream().read, reader.stream(len(tokens)).step):
        with pytest.raises(InputError, match=sentence):
            read(np.array(tokens))


def test_no_tokens_have_no_scores():
    reader = fitted("characters").reader_
    assert reader([]).shape == (0, reader.tokenizer.size)
    stream = reader.stream(2)
    with pytest.raises(InputError, match="tokens must be at least one"):
        stream.read([])
    with pytest.raises(InputError, match=r"tokens must have shape \(2,\), not \(1,\)"):
        stream.step([1])
    stream.step([1, 2])
    stream.reset()
    assert stream.steps == 0


def test_a_fitted_model_is_copied_and_goes_to_another_process():
    model = fitted("characters")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again.sample("the ", length=20) == model.sample("the ", length=20)


def test_a_foreign_or_damaged_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    fitted("characters").save(path)
    path.write_bytes(path.read_bytes()[:-100])
    for open_ in (LanguageModel.load, Reader.open):
        with pytest.raises(InputError, match="cannot be read as a model"):
            open_(path)
        with pytest.raises(InputError, match="there is no such file"):
            open_(tmp_path / "none")


@settings(max_examples=20)
@given(text=st.text(max_size=40))
def test_any_prompt_is_gone_on_from(text):
    for name in ("characters", "bytes"):
        written = fitted(name).sample(text, 3)
        assert written.startswith(text)
        assert np.isfinite(fitted(name).score(text).log_probs).all()


def test_the_first_layer_reads_columns_as_it_reads_an_embedding():
    torch.manual_seed(0)
    mingru = {"cell": "mingru"}
    for options in (
        {},
        {"lines": True, "reset": "none"},
        {"hidden_sizes": (9, 7)},
        mingru,
        mingru | {"lines": True, "hidden_sizes": (8,)},
    ):
        shape = Shape(**({"vocab_size": 6, "embedding_size": 5, "hidden_sizes": (8, 8)} | options))
        network = Network(shape).double()
        tokens, states = torch.randint(6, (13, 3)), network.states(3)
        assert network._few(tokens)
        results = []
        for columns in (False, True):
            if columns:  # nor is each step's row multiplied
                network.embedding.register_forward_hook(_fail)
            output, after = network.read(tokens, states, columns=columns)
            gradients = torch.autograd.grad(
                output.square().sum(), (network.embedding.weight, *network.cells.parameters())
            )
            results.append((output, *after, *gradients))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)


def _fail(*_):
    raise AssertionError("the embedding was read step by step")


def test_columns_are_dropped_as_the_layer_drops():
    sizes = {"vocab_size": 6, "embedding_size": 5, "hidden_sizes": (8, 8)}
    for cell, name in (
        ("gru", "dropout"),
        ("gru", "recurrent_dropout"),
        ("gru", "weight_dropout"),
        ("mingru", "dropout"),
    ):
        network = Network(Shape(**sizes, cell=cell), Regularisers(**{name: 0.5})).train()
        tokens, states = torch.randint(6, (13, 3)), network.states(3)
        results = []
        for columns in (False, True):
            torch.manual_seed(1)
            results.append(network.read(tokens, states, columns=columns)[0])
        torch.testing.assert_close(*results)


def test_inspection_sees_the_same_gates():
    inspect = pytest.importorskip("tidegate.inspect")
    model, text = fitted("two sizes"), "the tide goes out"
    seen, ours = inspect.gates(model, text), model.gates(text)
    assert len(seen.layers) == 2
    for layer, update in zip(seen.layers, ours.update, strict=True):
        np.testing.assert_allclose(layer.update[1:, 0], update, atol=1e-5)
    item = model._inspectable(text)
    scores = item.module.double()(*item.inputs)
    item.module.float()
    assert "".join(item.labels[0]) == "⏎" + text
    choices = item.outcomes[0]
    assert len(choices) == scores.size(1) == len(text) + 1
    assert choices[3].truth == text[3]
    likeliest = scores[0, 3].softmax(-1).max().item()
    assert choices[3].chances[0] == pytest.approx(likeliest, abs=1e-5)
    odds = likeliest / (1 - likeliest)
    assert np.exp(item.score(scores, 3).item()) == pytest.approx(odds, abs=1e-4)
    mean = -model.score(text).log_probs.mean()
    assert item.loss(scores).item() == pytest.approx(mean, abs=1e-4)
    assert model._inspectable(None).labels[0][0] == "⏎"
