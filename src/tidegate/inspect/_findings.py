"""What the numbers show, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._chart import minus, number, percent
from ._gates import seen

if TYPE_CHECKING:
    from ..train import History
    from ._ablate import Ablation
    from ._calibration import Calibration
    from ._carry import Carry
    from ._flow import GradientFlow
    from ._gates import Gates
    from ._memory import LayerMemory, Memory

# A gradient is dead where less than this share of it is left.
DEAD = 0.01
# A unit whose state moves less than this over all steps and rows does not move.
_STILL = 1e-3
# A loss that changes by less than this share did not notice.
_UNNOTICED = 0.01


@dataclass(frozen=True)
class Finding:
    """One thing that the numbers show.

    Attributes:
        head: in one sentence.
        detail: the numbers behind it.
        advice: what to do about it; "" where there is nothing to do.
    """

    head: str
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        """In one paragraph."""
        return " ".join(filter(None, [self.head, self.detail, self.advice]))


def findings(
    gates: Gates,
    memory: Memory,
    flow: GradientFlow,
    ablation: Ablation,
    carry: Carry | None,
    history: dict[str, History] | None,
    calibration: Calibration | None,
    cure: str,
    tokens: bool = False,
) -> tuple[Finding, ...]:
    """All that can be said, what matters most first.

    `cure` is what makes a longer memory, with {} for its steps; "" where the user has no such
    choice. A text has `tokens` in place of steps.
    """
    found = [
        *_gradient(memory, flow, cure, "token" if tokens else "step"),
        *_where_memory_sits(memory),
        *_far_input(gates, memory),
        *_probe(memory),
        *_origin(carry, tokens),
        *_worth(ablation),
        *_saturation(memory),
        *_still_units(gates),
        *_training(history),
        *_confidence(calibration),
    ]
    return tuple(found)


def _gradient(memory: Memory, flow: GradientFlow, cure: str, end: str) -> Iterator[Finding]:
    plain = next((c for c in flow.curves if c.name.startswith("plain RNN")), None)
    beside = "" if plain is None else _beside(plain.falls_under(DEAD))
    layers = [layer for layer in memory.layers if len(layer.lags) >= 4]
    grows = [layer for layer in layers if layer.gradient.max() > 10]
    others = [layer for layer in layers if layer not in grows]
    dies = [layer for layer in others if layer.falls_under(DEAD) is not None]
    reaches = [layer for layer in others if layer not in dies]
    if grows:
        most = max(grows, key=lambda layer: layer.gradient.max())
        worst = int(most.gradient.argmax())
        yield Finding(
            f"The gradient grows on its way back{_in_layers(grows, memory)}.",
            f"At lag {worst} its norm is {number(most.gradient[worst])}"
            f"{_in_layers([most], memory) if len(grows) > 1 else ''}, where 1 is neither gain nor "
            "loss.",
            "Clip the gradient when training (clip=1.0), and lower the learning rate.",
        )
    if dies:
        dead = [layer.falls_under(DEAD) or 0 for layer in dies]
        first, last = min(dead), max(dead)
        lag = f"lag {first}" if first == last else f"lag {first} to {last}"
        longest = max(2 * last, int(dies[0].lags[-1]))
        back = "one step" if last == 1 else f"{last} steps"
        yield Finding(
            f"The gradient dies at {lag}{_in_layers(dies, memory)}.",
            f"Of a small change {back} before the last {end}, less than a hundredth arrives there."
            f"{beside}",
            cure
            and f"What lies farther back can hardly be learnt. If it matters, train again "
            f"with {cure}.".format(longest),
        )
    if reaches:
        last = int(reaches[0].lags[-1])
        norms = " and ".join(
            number(layer.gradient[-1]) + (f" ({layer.words})" if len(reaches) > 1 else "")
            for layer in reaches[:3]
        )
        yield Finding(
            f"The gradient reaches back over all {last} steps{_in_layers(reaches, memory)}.",
            f"At lag {last} its norm is {norms}.{beside}",
        )


def _beside(lag: int | None) -> str:
    if lag is None:
        return ""
    return f" In an untrained plain RNN of this size it dies at lag {lag}."


def _where_memory_sits(memory: Memory) -> Iterator[Finding]:
    left = {}
    for layer in memory.layers:
        leak = float(np.median(layer.leak_time))
        if not np.isfinite(leak) or len(layer.tried) < 4:
            continue
        far = np.flatnonzero(layer.tried >= 3 * max(leak, 1))
        if len(far) and np.isfinite(layer.swap[far[0]]) and layer.swap[far[0]] > 0.3:
            left[layer.name] = (float(layer.swap[far[0]]), int(layer.tried[far[0]]), leak)
    if not left:
        return
    layers = [layer for layer in memory.layers if layer.name in left]
    most = max(layers, key=lambda layer: left[layer.name][0])
    share, lag, leak = left[most.name]
    yield Finding(
        f"Memory sits in the candidate more than in the carry{_in_layers(layers, memory)}.",
        f"The gates alone would let half of the units fall to 1/e within {number(leak)} steps, yet "
        f"{lag} steps after the state was swapped, {percent(share)} of the difference is still "
        f"there{_in_layers([most], memory) if len(layers) > 1 else ''}.",
        "Do not judge this memory by its gates alone.",
    )


def _far_input(gates: Gates, memory: Memory) -> Iterator[Finding]:
    """An input far back that moves the end much more than those about it do."""
    for layer in memory.layers:
        lags, flip = layer.tried, np.nan_to_num(layer.flip)
        far = lags >= 8
        if far.sum() < 6 or layer.name.endswith("_reverse"):
            continue
        usual, best = float(np.median(flip[far])), int(np.where(far, flip, 0).argmax())
        if flip[best] < max(0.2, 4 * usual):
            continue
        place = int(gates.lengths[0]) - 1 - int(lags[best])
        alone = len(gates.lengths) == 1 and place >= 0
        label = f", {seen(gates.labels[0][place], bare=True)!r}," if alone else ""
        yield Finding(
            f"The input {lags[best]} steps before the end{label} is still felt"
            f"{_in_a_line(layer, memory)}.",
            f"With another in its place the last state moves by {percent(float(flip[best]))} of "
            f"the distance between two rows; inputs so far back usually move it by "
            f"{percent(usual)}.",
        )


def _probe(memory: Memory) -> Iterator[Finding]:
    for layer in memory.layers:
        if layer.probe is None or not layer.groups:
            continue
        best, everyone = layer.groups[0], layer.groups[-1]
        half = next((g for g in layer.groups if 2 * len(g.units) >= len(everyone.units)), best)
        if everyone.alone <= memory.chance + 0.05:
            yield Finding(
                f"The label cannot be read from the last state{_in_a_line(layer, memory)}.",
                f"A linear probe on all units reaches {percent(everyone.alone)} "
                f"({memory.score}), by chance {percent(memory.chance)}.",
            )
            continue
        spread = half.without > memory.chance + 0.8 * (everyone.alone - memory.chance)
        yield Finding(
            f"The label can be read from the last state{_in_a_line(layer, memory)}"
            + (", and it is spread over the units." if spread else "."),
            f"A linear probe on all units reaches {percent(everyone.alone)}, on the best one "
            f"alone {percent(best.alone)}, and with the best {len(half.units)} held still "
            f"{percent(half.without)}; by chance {percent(memory.chance)}.",
        )


def _origin(carry: Carry | None, tokens: bool) -> Iterator[Finding]:
    if carry is None or len(carry.integrated) < 6:
        return
    share = np.trim_zeros(carry.share(), "b")  # steps after the one that is explained
    if not len(share):
        return
    count = int(np.argmax(np.cumsum(share[::-1]) >= 0.9 * share.sum())) + 1
    steps, of = len(share), f", for {carry.row}" if carry.row else ""
    asked = f"Asked about {carry.words}{of}, by integrated gradients."
    word = "token" if tokens else "step"
    if 2 * count <= steps:
        last = f"last {word}" if count == 1 else f"last {count} of {steps:,} {word}s"
        yield Finding(
            f"What came out rests on the {last}.",
            f"Nine tenths come from there. {asked}",
            "Shorter input would cost less and change little, if other inputs show the same.",
        )
    else:
        most = int(share.argmax())
        label = seen(carry.labels[most], bare=True)
        step = f"{label!r}" if tokens else f"step {label}"
        yield Finding(
            f"What came out rests on {step} more than on any other.",
            f"{percent(float(share[most]))} come from there, nine tenths from the last {count} of "
            f"{steps:,} {word}s. {asked}",
        )


def _worth(ablation: Ablation) -> Iterator[Finding]:
    if not np.isfinite(ablation.loss) or not ablation.loss:
        return
    change = {
        (held.layer, held.gate, held.value): held.loss / ablation.loss - 1 for held in ablation.held
    }
    everywhere = "all layers" if ("all layers", "update", 0) in change else ablation.held[0].layer
    forget = change.get((everywhere, "update", 0))
    if forget is not None:
        without = number(ablation.loss * (1 + forget))
        if forget < -_UNNOTICED:
            yield Finding(
                "The carried past does harm here.",
                f"With nothing of it kept, the loss falls from {number(ablation.loss)} to "
                f"{without}.",
                "This input may be unlike what the model learnt from, or the model learnt too "
                "little: look at its loss on other inputs.",
            )
        elif forget > _UNNOTICED:
            yield Finding(
                "The carried past is worth something.",
                f"With nothing of it kept, the loss rises from {number(ablation.loss)} to "
                f"{without}.",
            )
        else:
            yield Finding(
                "The carried past is worth little here.",
                f"With nothing of it kept, the loss changes by {minus(f'{forget:+.1%}')} from "
                f"{number(ablation.loss)}: the candidate does the work, or memory is not needed.",
            )
    resets = [
        value for (_, gate, value_), value in change.items() if (gate, value_) == ("reset", 1)
    ]
    if resets and max(map(abs, resets)) < _UNNOTICED:
        yield Finding(
            "The reset gate does nothing that the loss would notice.",
            f"Held open, in one layer after the other, it changes the loss by "
            f"{max(map(abs, resets)):.1%} at most.",
            'A GRU without it (reset="none") has a third fewer parameters.',
        )


def _saturation(memory: Memory) -> Iterator[Finding]:
    for kind, what, why in (
        (
            "open",
            "keep nearly all of the past at nearly every step",
            "They are a long memory, or they take nothing in: the heat map shows which.",
        ),
        ("shut", "keep nearly nothing of the past", "They pass the step's input on."),
    ):
        counts = [int((getattr(layer, kind) > 0.95).sum()) for layer in memory.layers]
        many = [
            (layer, count)
            for layer, count in zip(memory.layers, counts, strict=True)
            if count and count >= 0.1 * len(layer.kept)
        ]
        if many:
            count, units = sum(c for _, c in many), sum(len(layer.kept) for layer, _ in many)
            where = _in_layers([layer for layer, _ in many], memory)
            yield Finding(f"{count} of {units} units {what}{where}.", why)


def _still_units(gates: Gates) -> Iterator[Finding]:
    for layer in gates.layers:
        states = layer.state.reshape(-1, layer.state.shape[-1])
        if len(states) < 2:
            continue
        still = int((np.nanstd(states, 0) < _STILL).sum())
        if still:
            yield Finding(
                f"{still} of {states.shape[1]} units never move ({layer.words}).",
                f"Their state stays within {_STILL} of one value for all of this input.",
                "If other inputs show the same, the layer can be that much smaller.",
            )


def _training(history: dict[str, History] | None) -> Iterator[Finding]:
    for name, one in (history or {}).items():
        if one.best is None or len(one.validations) < 4:
            continue
        step, value = one.best
        last_step, last = one.validations[-1]
        if step < 0.6 * last_step and last > value * 1.02:
            yield Finding(
                f"Validation was best at step {step} of {last_step} ({name}).",
                f"It was {number(value)} there and {number(last)} at the end; the best is kept.",
                "More steps learn the training data by heart; more data or dropout may help.",
            )
        elif step == last_step:
            yield Finding(
                f"Training had not finished: the last validation was the best ({name}).",
                f"{number(value)} at step {step}.",
                "More steps may do better.",
            )


def _confidence(calibration: Calibration | None) -> Iterator[Finding]:
    if calibration is None:
        return
    sure, right, count = calibration.sure, calibration.right, calibration.count
    noise = (max(right * (1 - right), 1 / count) / count) ** 0.5
    if abs(sure - right) < max(3 * noise, 0.05):
        return
    more = "more" if sure > right else "less"
    yield Finding(
        f"It is {more} sure than it is right.",
        f"It gives its {count:,} answers {percent(sure)} on the average; {percent(right)} are "
        "right.",
    )


def _in_a_line(layer: LayerMemory, memory: Memory) -> str:
    return _in_layers([layer], memory)


def _in_layers(layers: Sequence[LayerMemory], memory: Memory) -> str:
    if len(memory.layers) < 2:
        return ""
    if len(layers) == len(memory.layers):
        deep = len({layer.name.removesuffix("_reverse") for layer in layers})
        return (" (both directions)", " (both layers)", f" (all {deep} layers)")[min(deep, 3) - 1]
    return f" ({'; '.join(layer.words for layer in layers)})"
