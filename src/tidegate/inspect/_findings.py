"""What the numbers show, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._chart import number, percent

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
) -> tuple[Finding, ...]:
    """All that can be said, what matters most first.

    `cure` is what makes a longer memory, with {} for its steps; "" where the user has no such
    choice.
    """
    found = [
        *_gradient(memory, flow, cure),
        *_where_memory_sits(memory),
        *_far_input(gates, memory),
        *_probe(memory),
        *_origin(carry),
        *_worth(ablation),
        *_saturation(memory),
        *_still_units(gates),
        *_training(history),
        *_confidence(calibration),
    ]
    return tuple(found)


def _gradient(memory: Memory, flow: GradientFlow, cure: str) -> Iterator[Finding]:
    plain = next((c for c in flow.curves if c.name.startswith("plain RNN")), None)
    for layer in memory.layers:
        if len(layer.lags) < 4:
            continue
        last, name = int(layer.lags[-1]), _in_a_line(layer, memory)
        dead = layer.falls_under(DEAD)
        beside = "" if plain is None else _beside(plain.falls_under(DEAD))
        if layer.gradient.max() > 10:
            worst = int(layer.gradient.argmax())
            yield Finding(
                f"The gradient grows on its way back{name}.",
                f"At lag {worst} its norm is {number(layer.gradient[worst])}, where 1 is neither "
                "gain nor loss.",
                "Clip the gradient when training (clip=1.0), and lower the learning rate.",
            )
        elif dead is not None:
            yield Finding(
                f"The gradient dies at lag {dead}{name}.",
                f"Of a small change {dead} steps before the end, less than a hundredth arrives."
                f"{beside}",
                "What lies farther back can hardly be learnt."
                + (cure and f" If it matters, train again with {cure}.").format(
                    max(2 * dead, last)
                ),
            )
        else:
            yield Finding(
                f"The gradient reaches back over all {last} steps{name}.",
                f"At lag {last} its norm is {number(layer.gradient[-1])}.{beside}",
            )


def _beside(lag: int | None) -> str:
    if lag is None:
        return ""
    return f" In an untrained plain RNN of this size it dies at lag {lag}."


def _where_memory_sits(memory: Memory) -> Iterator[Finding]:
    for layer in memory.layers:
        leak = float(np.median(layer.leak_time))
        if not np.isfinite(leak) or len(layer.tried) < 4:
            continue
        far = np.flatnonzero(layer.tried >= 3 * max(leak, 1))
        if not len(far) or not np.isfinite(layer.swap[far[0]]):
            continue
        lag, left = int(layer.tried[far[0]]), float(layer.swap[far[0]])
        if left > 0.3:
            yield Finding(
                f"Memory sits in the candidate more than in the carry{_in_a_line(layer, memory)}.",
                f"The gates alone would let half of the units fall to 1/e within {number(leak)} "
                f"steps, yet {lag} steps after the state was swapped, {percent(left)} of the "
                "difference is still there.",
                "Do not judge this layer's memory by its gates alone.",
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
        label = f", {gates.labels[0][place].strip()!r}," if alone else ""
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


def _origin(carry: Carry | None) -> Iterator[Finding]:
    if carry is None or len(carry.integrated) < 6:
        return
    share = np.trim_zeros(carry.share(), "b")  # steps after the one that is explained
    if not len(share):
        return
    count = int(np.argmax(np.cumsum(share[::-1]) >= 0.9 * share.sum())) + 1
    steps, of = len(share), f" of {carry.row}" if carry.row else ""
    if 2 * count <= steps:
        yield Finding(
            f"What came out rests on the last {count} of {steps} steps.",
            f"Nine tenths of {carry.words}{of} (integrated gradients) come from there.",
            "Shorter input would cost less and change little, if other inputs show the same.",
        )
    else:
        most = int(share.argmax())
        label = carry.labels[most].strip()
        step = f"step {label}" if label.isdigit() else repr(label)
        yield Finding(
            f"What came out rests on {step} more than on any other.",
            f"It has {percent(float(share[most]))} of {carry.words}{of} (integrated gradients); "
            f"nine tenths come from the last {count} of {steps} steps.",
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
                f"With nothing of it kept, the loss changes by {forget:+.1%} from "
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
    for layer in memory.layers:
        units = len(layer.kept)
        opened = int((layer.open > 0.95).sum())
        if opened and opened >= 0.1 * units:
            yield Finding(
                f"{opened} of {units} units keep nearly all of the past at nearly every step"
                f"{_in_a_line(layer, memory)}.",
                "They are a long memory, or they take nothing in: the heat map shows which.",
            )
        shut = int((layer.shut > 0.95).sum())
        if shut and shut >= 0.1 * units:
            yield Finding(
                f"{shut} of {units} units keep nearly nothing of the past"
                f"{_in_a_line(layer, memory)}.",
                "They pass the step's input on.",
            )


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
    return f" ({layer.words})" if len(memory.layers) > 1 else ""
