"""The pictures of the guide, in English and in Persian: `python docs/figures.py [NAME…]`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from svg import Axes, Drawing, grouped_bars

DOCS = Path(__file__).parent
FOLDERS = {"en": DOCS / "guide" / "img", "fa": DOCS / "fa" / "img"}
CELLS = {  # whose answers the agreement benchmark has, in its order
    "en": ("plain RNN", "LSTM", "GRU", "GRU, chrono"),
    "fa": ("شبکه ساده", "LSTM", "GRU", "GRU با chrono"),
}
FIGURES: dict[str, Callable[[str], Drawing]] = {}


def figure(make: Callable[[str], Drawing]) -> Callable[[str], Drawing]:
    FIGURES[make.__name__.replace("_", "-")] = make
    return make


@figure
def forgetting(language: str) -> Drawing:
    words = {
        "en": ("steps back", "influence", "plain RNN", "fresh GRU", "GRU, chrono"),
        "fa": ("چند گام پیش‌تر", "اثر", "شبکه ساده", "GRU تازه", "GRU با chrono"),
    }[language]
    draw = Drawing(640, 350, language)
    axes = Axes(draw, (0, 100), (1e-12, 3), log_y=True, right=130)
    axes.ticks((0, 20, 40, 60, 80, 100), (1e-12, 1e-9, 1e-6, 1e-3, 1), *words[:2])
    for series, (name, sizes) in enumerate(zip(words[2:], _influences(), strict=True)):
        seen = [(k, size) for k, size in sizes if size > 1e-12]
        shift = ((-80, 2), (8, -8), (8, 5))[series]
        axes.line(*zip(*seen, strict=True), series, name, shift)
    return draw


def _influences() -> list[list[tuple[int, float]]]:
    """The page's own measurement, at every lag."""
    import torch
    from run import BLOCK

    code = BLOCK.findall((DOCS / "guide" / "forgetting.md").read_text("utf-8"))
    names: dict = {"print": lambda *_: None}
    exec(code[0][0], names)
    exec(code[2][0], names)
    torch.manual_seed(0)
    lags = [0, 1, 2, 3, 4, *range(5, 101, 5)]
    fresh = names["GRUCell"](16, 64, dtype=torch.float64)
    plain = torch.nn.RNNCell(16, 64, dtype=torch.float64)
    return [
        list(zip(lags, names["influence"](cell, lags), strict=True))
        for cell in (plain, fresh, names["gru"])
    ]


@figure
def two_forms(language: str) -> Drawing:
    plus = {"en": "split", "fa": "جدا"}[language], {"en": "stacked", "fa": "روی هم"}[language]
    draw = Drawing(640, 220, language)
    draw.text(150, 24, plus[0], kind="b")
    for x, name, rows, kind in ((20, "x", 3, "f0"), (170, "h", 4, "f1")):
        draw.box(x, 90, 16 * rows, 20, kind, 3, 0.75)
        draw.text(x + 8 * rows, 84, name, kind="s b")
        draw.box(x + 16 * rows + 10, 60, 64, 18 * rows, kind, 3, 0.35)
        draw.text(x + 16 * rows + 42, 60 + 9 * rows + 5, "Wᵢ" if name == "x" else "Wₕ", kind="b")
    draw.text(156, 106, "+", kind="b")
    draw.text(342, 106, "=", kind="b")
    draw.text(500, 24, plus[1], kind="b")
    draw.box(372, 90, 48, 20, "f0", 3, 0.75)
    draw.box(422, 90, 64, 20, "f1", 3, 0.75)
    draw.text(396, 84, "x", kind="s b")
    draw.text(454, 84, "h", kind="s b")
    draw.box(506, 50, 64, 54, "f0", 3, 0.35)
    draw.box(506, 106, 64, 72, "f1", 3, 0.35)
    draw.text(538, 82, "Wᵢ", kind="b")
    draw.text(538, 147, "Wₕ", kind="b")
    return draw


@figure
def update_gate(language: str) -> Drawing:
    words = {
        "en": ("steps", "what is left", "bias {}"),
        "fa": ("گام", "آنچه مانده", "بایاس {}"),
    }[language]
    draw = Drawing(640, 340, language)
    axes = Axes(draw, (1, 1000), (0, 1), log_x=True, right=90)
    axes.ticks((1, 10, 100, 1000), (0, 0.25, 0.5, 0.75, 1), *words[:2])
    steps = np.unique(np.geomspace(1, 1000, 60).round())
    for series, bias in enumerate((0, 4, 7, 12)):
        name = words[2].format(draw.digits(bias))
        shift = ((8, 5), (8, -12), (8, 5), (8, 5))[series]
        axes.line(steps, (1 / (1 + np.exp(-bias))) ** steps, series, name, shift)
    return draw


@figure
def reset_gate(language: str) -> Drawing:
    words = {
        "en": ("state before", "state after", "reset gate", "update gate", "candidate", "input"),
        "fa": ("حالت پیشین", "حالت تازه", "دروازه بازنشانی", "دروازه بروزرسانی", "نامزد", "ورودی"),
    }[language]
    draw = Drawing(680, 320, language)
    y = 60
    draw.text(20, y - 14, words[0], "start", "s m")
    draw.text(20, y + 5, "h", "start", "b")
    draw.arrow((36, y), (440, y))
    draw.label(440, y - 15, 40, 30, "×", "b")
    draw.arrow((480, y), (560, y))
    draw.label(560, y - 15, 40, 30, "+", "b")
    draw.arrow((600, y), (650, y))
    draw.text(660, y + 5, "h", kind="b")
    draw.text(660, y - 24, words[1], "end", "s m")
    for x, name, symbol in ((90, words[2], "r = σ(·)"), (390, words[3], "z = σ(·)")):
        draw.label(x, 200, 140, 34, symbol, "b")
        draw.text(x + 70, 254, name, kind="s m")
    draw.label(235, 112, 40, 30, "×", "b")
    draw.path([(255, y), (255, 112)], "a", "arrow")
    draw.path([(160, 200), (160, 127), (235, 127)], "a", "arrow")
    draw.text(150, 122, "r", "end", "b")
    draw.label(310, 110, 110, 34, "n = tanh(·)", "b")
    draw.text(365, 162, words[4], kind="s m")
    draw.arrow((275, 127), (310, 127))
    draw.path([(460, 200), (460, 75)], "a", "arrow")
    draw.text(470, 100, "z", "start", "b")
    draw.label(560, 112, 40, 30, "×", "b")
    draw.path([(420, 127), (560, 127)], "a", "arrow")
    draw.path([(530, 217), (580, 217), (580, 142)], "a", "arrow")
    draw.text(590, 185, "1 − z", "start", "b")
    draw.path([(580, 112), (580, 75)], "a", "arrow")
    draw.text(340, 306, f"{words[5]}: x", kind="s")
    draw.path([(340, 290), (340, 144)], "a", "arrow")
    draw.path([(340, 285), (160, 285), (160, 262)], "a", "arrow")
    draw.path([(340, 285), (460, 285), (460, 262)], "a", "arrow")
    return draw


@figure
def network(language: str) -> Drawing:
    names = {
        "en": ("input", "embedding", "layer 1", "layer 2", "dense", "answer", "step {}"),
        "fa": ("ورودی", "تعبیه", "لایه ۱", "لایه ۲", "چگال", "پاسخ", "گام {}"),
    }[language]
    draw = Drawing(680, 380, language)
    heights = (330, 256, 182, 108)
    for step in range(4):
        x = 110 + step * 110
        draw.text(x + 40, 372, names[6].format(draw.digits(step + 1)), kind="s m")
        draw.text(x + 40, 348, f"x{'₁₂₃₄'[step]}", kind="b")
        for row, height in enumerate(heights[1:], start=1):
            draw.label(x, height, 80, 36, names[row], "s b")
            below = 332 if row == 1 else height + 74
            draw.arrow((x + 40, below), (x + 40, height + 36))
            if row > 1 and step < 3:
                draw.arrow((x + 80, height + 18), (x + 110, height + 18))
    draw.arrow((480, 108), (480, 82))
    draw.label(440, 46, 80, 36, names[4], "s b")
    draw.arrow((520, 64), (560, 64))
    draw.text(570, 69, names[5], "start", "b")
    draw.text(100, 204, "h", "end", "b")
    draw.text(100, 130, "h", "end", "b")
    return draw


@figure
def sentence(language: str) -> Drawing:
    """The Persian sentence from right to left, a bar under each word."""
    from run import BLOCK
    from safetensors.torch import load_file

    from tidegate.data.agreement import SENTENCE
    from tidegate.inspect import carry
    from tidegate.nn import GRU

    code = BLOCK.findall((DOCS / "guide" / "long-sentence.md").read_text("utf-8"))
    names: dict = {"print": lambda *_: None}
    exec(code[0][0], names)
    model = names["Network"](GRU(32, 64, batch_first=True))
    model.load_state_dict(load_file(DOCS / "models" / "agreement-gru-mixed.safetensors"))
    ids, _ = names["encode"]([SENTENCE])
    found = carry(model, ids, labels=[list(SENTENCE.words)], score=lambda result: result)
    draw = Drawing(720, 200, language)
    x, y = 704.0, 30.0
    for word, share in zip((*SENTENCE.words, SENTENCE.good), (*found.share(), 0), strict=True):
        width = 14 + 7.4 * sum(letter.isalpha() for letter in word)
        if x - width < 10:
            x, y = 704.0, y + 84
        last = word == SENTENCE.good
        draw.text(x - width / 2, y, word, kind="b f2" if last else "b" if share > 0.2 else "")
        if not last:
            draw.box(
                x - width / 2 - 8, y + 10, 16, max(1.0, 50 * share / max(found.share())), "f0", 2
            )
        x -= width
    return draw


@figure
def long_sentence(language: str) -> Drawing:
    words, rows = {"en": "{} words", "fa": "{} واژه"}[language], _measured("agreement")
    draw = Drawing(680, 300, language)
    groups = {words.format(draw.digits(far)): rows[far] for far in ("31", "70", "168")}
    grouped_bars(draw, groups, CELLS[language], top=100)
    return draw


@figure
def language(language: str) -> Drawing:
    """Update gates of the units that keep most and least, a column for each word."""
    from tidegate.data.agreement import SENTENCE
    from tidegate.runtime import load

    words = {
        "en": "share of the past kept: pale 0, dark 1 (read from the right)",
        "fa": "سهمی از گذشته که مانده: کم‌رنگ ۰ و پررنگ ۱",
    }[language]
    gates = load(DOCS / "models" / "sentences.safetensors").gates(SENTENCE.right)
    kept = gates.update[0]
    order = kept.mean(axis=0).argsort()[::-1]
    shown = kept[:, order[[0, 1, 2, 3, 5, 8, 12, 18, 26, 40, 60, 95]]]
    draw = Drawing(720, 330, language)
    step = 650 / len(kept)
    for column, word in enumerate(gates.tokens):  # the first word at the right, as it is read
        x = 690 - (column + 1) * step
        for row, share in enumerate(shown[column]):
            draw.box(x + 1, 20 + row * 16, step - 2, 14, "f2", 2, 0.06 + 0.94 * float(share))
        draw.parts.append(
            f'<text class="s" text-anchor="end" transform="translate({x + step / 2 + 4:.1f} 222) '
            f'rotate(-60)">{word}</text>'
        )
    draw.text(360, 324, words, kind="s m")
    return draw


@figure
def cells(language: str) -> Drawing:
    name = {"en": "treebanks", "fa": "پیکره‌های درختی"}[language]
    draw = Drawing(520, 280, language)
    grouped_bars(draw, {name: _measured("agreement")["text"]}, CELLS[language], top=100)
    return draw


@figure
def conversion(language: str) -> Drawing:
    words = {
        "en": ("one file of layers", "NumPy alone", "step by step", "bfloat16, int8", "torch"),
        "fa": ("یک پرونده از لایه‌ها", "تنها NumPy", "گام‌به‌گام", "bfloat16، int8", "torch"),
    }[language]
    draw = Drawing(680, 240, language)
    for row, name in enumerate((words[4], "Keras", "ONNX")):
        draw.label(20, 26 + row * 70, 130, 44, name, "b")
        draw.arrow((150, 48 + row * 70), (250, 118 + (row - 1) * 12))
    draw.label(252, 88, 170, 60, words[0], "b")
    for row, name in enumerate(words[1:4]):
        draw.arrow((422, 118 + (row - 1) * 12), (520, 48 + row * 70))
        draw.label(522, 26 + row * 70, 138, 44, name, "s b")
    return draw


@figure
def forecasting(language: str) -> Drawing:
    """A series of the page: its end, the forecast and its band, and what came."""
    words = {
        "en": ("thousands", "history", "forecast, 80% band", "truth"),
        "fa": ("هزار نفر", "گذشته", "پیش‌بینی با بازه ۸۰٪", "واقعیت"),
    }[language]
    table, known, forecast = _employment()
    name = "construction"
    past = known[known.unique_id == name].tail(36).y.to_numpy()
    came = table[(table.unique_id == name) & (table.ds >= "2015-01-01")].head(12).y.to_numpy()
    ahead = forecast[forecast.unique_id == name]
    low, median, high = (ahead[c].to_numpy() for c in ("GRU-lo-80", "GRU", "GRU-hi-80"))
    everything = np.concatenate((past, came, low, high))
    draw = Drawing(680, 340, language)
    ends = float(everything.min()) * 0.99, float(everything.max()) * 1.01
    axes = Axes(draw, (0, 47), ends, right=150)
    step = 500 if ends[1] - ends[0] > 1200 else 200
    levels = np.arange(np.ceil(ends[0] / step) * step, ends[1], step)
    axes.ticks((), levels, "", words[0])
    for month in range(0, 48, 12):
        x, _ = axes.at(month, ends[0])
        draw.text(x, draw.height - 30, draw.digits(2012 + month // 12), kind="s m")
    corners = [axes.at(36 + i, y) for i, y in enumerate(high)]
    corners += [axes.at(36 + i, y) for i, y in reversed(list(enumerate(low)))]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    draw.parts.append(f'<polygon class="f2" opacity="0.2" points="{outline}"/>')
    axes.line(range(36), past, 1)
    draw.text(axes.at(14, past[14])[0], axes.at(14, past[14])[1] - 40, words[1], kind="s b f1")
    axes.line(range(36, 48), came, 0, words[3], (8, -6 if came[-1] > median[-1] else 12))
    axes.line(range(36, 48), median, 2, words[2], (8, 12 if came[-1] > median[-1] else -6))
    return draw


@functools.cache
def _employment() -> tuple:
    """The page's own table, what it knew, and its forecast, after all steps of training."""
    from run import BLOCK

    code = BLOCK.findall((DOCS / "guide" / "forecasting.md").read_text("utf-8"))
    names: dict = {"print": lambda *_, **__: None}
    exec(code[0][0], names)
    exec(code[1][0].replace(", steps=40", ""), names)
    return names["table"], names["known"], names["forecast"]


def _measured(name: str) -> dict[str, list[float]]:
    """What a benchmark measured, as benchmarks/README.md has it."""
    return json.loads((DOCS / "measured" / f"{name}.json").read_text("utf-8"))


def main(names: list[str]) -> None:
    for name, make in FIGURES.items():
        if not names or name in names:
            for language, folder in FOLDERS.items():
                make(language).save(folder / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
