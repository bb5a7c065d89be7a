"""The page as text: what it holds, how large it is, and that it says only what was measured."""

import html.parser
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from inspect_cases import a_text, data_of, series
from tidegate._inspectable import Choices, Numbers
from tidegate.errors import InputError
from tidegate.inspect import _heat, gates, memory, report
from tidegate.inspect._backtest import judge
from tidegate.inspect._calibration import calibration_of
from tidegate.inspect._heat import right_to_left
from tidegate.language import LanguageModel
from tidegate.nn import GRU
from tidegate.train import History

VOID = {"meta", "link", "input", "br", "rect", "path", "polygon"}


class Outline(html.parser.HTMLParser):
    """Headings and attributes of a page, and whether every element is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.headings, self.tags = [], [], []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_a_page_of_series_has_every_section():
    page = Outline(report(series()).html)
    assert page.headings == [
        "A GRU that reads walks",
        "What was found",
        "What the gates did",
        "What came out",
        "Where it came from",
        "How far back it reaches",
        "Units by their memory",
        "Saturation",
        "What each gate is worth",
        "Training",
        "The words",
    ]


def test_every_figure_has_words():
    for made in (report(series()), report(a_text())):
        pictures = [a for _, a in Outline(made.html).tags if a.get("role") == "img"]
        assert len(pictures) > 4
        assert all(len(attributes["aria-label"]) > 10 for attributes in pictures)


def test_a_page_fetches_nothing_and_names_are_no_markup():
    made = report(series())
    assert not re.search(r"""(src|href)=["'](?!data:)""", made.html)
    assert "default-src 'none'" in made.html
    assert "walk 0 <&>" not in made.html
    assert "walk 0 &lt;&amp;&gt;" in made.html


def test_tokens_are_no_markup_and_turn_nothing_round():
    html = report(a_text("یک <u> دو سه <u> چهار <u>")).html
    assert "<u>" not in html
    assert "&lt;u&gt;" in html
    assert "<bdi>&#x27;کردند&#x27;</bdi>" in report(a_text()).html


def test_a_large_input_is_summarised():
    torch.manual_seed(0)
    gru = GRU(3, 70, 2, batch_first=True)
    made = report(gru, torch.randn(8, 270, 3), lags=2, title="Large")
    assert len(made.html.encode()) < 2_000_000
    data = data_of(made)
    assert data["of"] == 8
    assert len(data["rows"]) <= 6
    assert len(data["rows"][0]["labels"]) == 135  # two steps a column
    assert data["rows"][0]["labels"][0] == "0 to 1"
    assert (data["rows"][0]["width"], data["rows"][0]["steps"]) == (2, 270)
    assert all(len(layer["units"]) <= 64 for layer in data["layers"])
    assert "of 70 units, evenly chosen" in made.html


def test_a_heat_map_of_many_layers_has_fewer_units_and_rows(monkeypatch):
    monkeypatch.setattr(_heat, "_BYTES", 10_000)
    data = data_of(report(GRU(1, 40, 2), torch.randn(30, 4, 1), lags=1))
    units = {len(layer["units"]) for layer in data["layers"]}
    assert units == {16}
    assert len(data["rows"]) * 30 * 16 * 2 * 4 <= 10_000 < (len(data["rows"]) + 1) * 30 * 16 * 2 * 4


def test_a_page_says_whether_a_label_can_be_read():
    torch.manual_seed(0)
    gru, x = GRU(1, 4, batch_first=True), torch.randn(40, 6, 1)
    noise = np.random.default_rng(0).integers(0, 2, 40)
    for target, head in (
        (x[:, -1, 0].numpy() > 0, "The label can be read from the last state"),
        (noise, "The label cannot be read from the last state."),
    ):
        made = report(gru, x, target=target)
        assert any(finding.head.startswith(head) for finding in made.findings)
        assert "What a linear probe reads (accuracy" in made.html
        assert "probe, accuracy" in made.html


def test_a_gradient_that_grows_is_found():
    gru = GRU(1, 4)
    with torch.no_grad():
        gru.weight_hh_l0[8:] = 3 * torch.eye(4)  # candidates that feed on themselves
        gru.weight_ih_l0.zero_()
        gru.bias_ih_l0.zero_()[4:8] = -3
        gru.bias_hh_l0.zero_()[:4] = 9
    heads = [finding.head for finding in report(gru, torch.zeros(12, 1, 1)).findings]
    assert "The gradient grows on its way back." in heads


def test_a_training_that_was_best_early_is_found():
    history = History([1.0] * 50, [(10, 0.2), (20, 0.3), (30, 0.4), (50, 0.5)], 1.0)
    made = report(GRU(1, 2), torch.randn(9, 2, 1), history=history)
    assert any(f.head == "Validation was best at step 10 of 50 (training)." for f in made.findings)


def test_a_module_whose_result_has_no_rows_has_a_page_without_an_origin():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = GRU(1, 2)

        def forward(self, x):
            return {"output": self.gru(input=x).output}

    made = report(Named(), torch.randn(9, 2, 1))
    assert made.carry is None
    assert "Where it came from" not in made.html


def test_a_long_sequence_is_cut_and_the_page_says_so():
    made = report(GRU(1, 2), torch.zeros(2003, 1, 1), lags=1)
    assert made.gates.lengths.tolist() == [2000]
    assert "The last 2,000 of 2,003 steps were looked into." in made.html


def test_a_long_text_is_cut_and_the_page_says_so():
    model = LanguageModel(hidden_size=4, steps=1, context_length=5, batch_size=2).fit("ab\n" * 40)
    made = report(model, "ab" * 1002, lags=1)
    assert made.gates.lengths.tolist() == [2001]  # and where it begins
    assert "The first 2,000 of 2,004 characters were looked into." in made.html


def test_the_heat_map_holds_the_gates():
    import base64

    made = report(series())
    row, layer = data_of(made)["rows"][1], data_of(made)["layers"][0]
    kept = np.frombuffer(base64.b64decode(row["gates"][0]["kept"]), np.uint8).reshape(6, 24)
    wanted = made.gates[0].update[:, 1][:, layer["units"]].T
    np.testing.assert_allclose(kept / 254, wanted, atol=0.003)
    assert row["values"][:2] == pytest.approx(series().values[1, :2].tolist(), rel=1e-5)
    by_memory = made.memory[0].leak_time[layer["units"]]
    assert (np.diff(by_memory) <= 0).all()


def test_findings_say_what_was_measured():
    made = report(series())
    heads = [finding.head for finding in made.findings]
    lag = made.memory[0].falls_under(0.01)
    assert f"The gradient dies at lag {lag}." in heads
    assert f"chrono_range=(2, {max(2 * lag, 23)})" in str(made)
    assert "Validation was best at step 20 of 50 (training)." in heads
    assert all(str(finding) in repr(made) for finding in made.findings)


def test_a_gate_that_keeps_everything_is_found():
    gru = GRU(1, 4)
    with torch.no_grad():
        gru.bias_ih_l0[4:8] = 30.0
    heads = [f.head for f in report(gru, torch.randn(20, 2, 1)).findings]
    assert "4 of 4 units keep nearly all of the past at nearly every step." in heads
    assert "The gradient reaches back over all 19 steps." in heads
    assert "4 of 4 units never move (layer 1)." in heads


def test_layers_of_which_the_same_is_found_share_a_finding():
    torch.manual_seed(0)
    made = report(nn.GRU(1, 4, 2, bidirectional=True), torch.randn(30, 2, 1))
    found = [f.head for f in made.findings if "dies" in f.head]
    dead = [layer.falls_under(0.01) for layer in made.memory.layers]
    assert found == [f"The gradient dies at lag {min(dead)} to {max(dead)} (both layers)."]


def test_the_drawing_has_the_parts_in_the_order_in_which_they_run():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.never, self.last_one = nn.Linear(9, 9), nn.Linear(12, 2)
            self.gru = nn.GRU(4, 6, bidirectional=True, batch_first=True)
            self.words = nn.Embedding(5, 4)

        def forward(self, x):
            return self.last_one(self.gru(self.words(x))[0])

    page = report(Network(), torch.tensor([[1, 2, 3, 4, 0]])).html
    boxes = re.findall(r'<div class="box[^>]*><b>(.*?)</b><span>(.*?)</span>', page)
    names, words = zip(*boxes, strict=True)
    assert names == ("Input", "Words", "GRU", "Last one", "Output")
    assert words[2].startswith("2 × 6 units, ")
    assert words[-1] == "2 numbers a step"


def test_a_text_runs_from_right_to_left():
    data = data_of(report(a_text()))
    assert data["tokens"]
    assert data["rows"][0]["rtl"]
    assert right_to_left("سلام GRU")
    assert not right_to_left("hello سلام")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    made = report(nn.GRU(2, 3), torch.randn(5, 1, 2))
    shown, _ = pytest.importorskip("IPython.core.formatters").DisplayFormatter().format(made)
    assert shown["text/html"].startswith("<iframe")
    assert 'sandbox="allow-scripts"' in shown["text/html"]
    assert "&lt;!doctype html&gt;" in shown["text/html"]
    assert shown["text/plain"] == repr(made)


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    made = report(nn.GRU(2, 3), torch.randn(5, 1, 2), tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text("utf-8") == made.html
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        made.save(tmp_path / "file" / "page.html")


def test_short_and_odd_inputs_have_a_page():
    report(nn.GRU(2, 3), torch.randn(1, 1, 2))
    report(nn.GRU(2, 3), torch.randn(4, 2))
    report(GRU(2, 1, bidirectional=True, reset="none"), (torch.randn(3, 2, 2), None, [3, 1]))
    with pytest.raises(ValueError, match="x has no steps"):
        report(GRU(2, 3), torch.zeros(0, 1, 2))
    x = torch.randn(5, 2, 2)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="of layer 1 are no numbers from step 3 of row 1 on"):
        report(GRU(2, 3), x)
    report(GRU(2, 3), (x, None, [5, 3]))  # what lies past a row's end is not read


def backtest(horizon=3, origins=4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for origin in range(origins):
        for step in range(horizon):
            y = float(rng.normal())
            rows.append(
                {
                    "unique_id": 7,  # a number, but not what came
                    "ds": origin + step,
                    "cutoff": origin,
                    "y": y,
                    "GRU": y - 10.0**step,
                    "GRU-lo-80": y - 1 if origin else y + 1,
                    "GRU-hi-80": y + 2,
                }
            )
    return pd.DataFrame(rows)


def test_a_backtest_is_judged_step_by_step_and_band_by_band():
    found = judge(backtest())
    np.testing.assert_allclose(found.error, [1, 10, 100])
    assert found.levels.tolist() == [80]
    assert found.coverage.tolist() == [0.75]
    assert (found.forecasts, found.origins) == (12, 4)
    page = report(series(), backtest=backtest()).html
    assert "the 80% band held 75%" in page
    with pytest.raises(InputError, match="no column 'cutoff'"):
        judge(backtest().drop(columns="cutoff"))


def test_a_backtest_of_several_series_that_share_an_origin_is_judged_by_step():
    several = pd.concat(
        backtest().assign(
            unique_id=name, y=lambda df, by=by: by * df.y, GRU=lambda df, by=by: by * df.GRU
        )
        for name, by in (("small", 1), ("large", 1000))
    )
    found = judge(several.sort_values("cutoff", kind="stable"))  # by origin, not by series
    size = backtest().y.abs().mean()
    np.testing.assert_allclose(found.error, np.array([1, 10, 100]) / size)
    assert found.relative
    assert (found.forecasts, found.origins) == (24, 8)


def test_answers_that_are_too_sure_are_found():
    sure = [[Choices(["a", "b"], [0.9, 0.1], truth="a" if i % 2 else "b")] for i in range(100)]
    found = calibration_of(replace(series(), outcomes=sure))
    assert (found.count, found.right) == (100, 0.5)
    np.testing.assert_allclose(found.promised, 0.9)
    made = report(replace(series(100, 5), outcomes=sure))
    heads = [finding.head for finding in made.findings]
    assert "It is more sure than it is right." in heads
    assert "100 answers, in 5 groups: 50% were right" in made.html
    fair = [
        [Choices(["a", "b"], [0.9, 0.1], truth="b" if i % 10 == 0 else "a")] for i in range(100)
    ]
    said = report(replace(series(100, 5), outcomes=fair)).findings
    assert not [finding for finding in said if "sure" in finding.head]
    assert calibration_of(replace(series(), outcomes=sure[:39])) is None


def test_numbers_that_came_out_are_shown_beside_what_came():
    each = [Numbers(np.arange(24.0), np.arange(24.0) + 1)] * 3
    assert (
        "answers from 0 to 23, 23 at the last step" in report(replace(series(), outcomes=each)).html
    )
    one = [Numbers(np.array([0.25]), np.array([0.75]))] * 3
    assert (
        '<td dir="auto" class="n">0.25</td><td dir="auto" class="n">0.75</td>'
        in report(replace(series(), outcomes=one)).html
    )


def test_an_estimator_is_not_told_to_initialise_what_it_makes_itself():
    text = "the tide comes in and the tide goes out\n" * 30
    model = LanguageModel("words", hidden_size=8, steps=2, batch_size=2).fit(text)
    found = [f for f in report(model, text[:200]).findings if "dies" in f.head]
    assert found
    assert not any("chrono" in str(finding) for finding in found)


def test_what_no_memory_could_hold_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("tidegate.inspect._replay.MOST", 1000)
    sentence = r"x has 300 steps of 1 row, .* the gates of 16 units: .* its last 62 steps"
    for look in (gates, memory):
        with pytest.raises(ValueError, match=sentence):
            look(GRU(1, 8, 2), torch.zeros(300, 1, 1))
    gates(GRU(1, 8, 2), torch.zeros(62, 1, 1))


def test_a_blank_is_named_where_a_token_is():
    tokens = list("ab ab ab a ")
    item = replace(a_text(" ".join("cdefghijklm")), labels=[tokens], outcomes=None)
    made = report(item)
    assert "after &#x27;␣&#x27;" in made.html
    assert "&#x27; &#x27;" not in made.html
