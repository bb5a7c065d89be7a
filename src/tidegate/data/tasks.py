"""Generated tasks that ask a network to remember: from a seed, of any length, with no file.

Each returns `Examples`: sequences, what is to be answered, and at which steps. They are the tasks
by which recurrent networks have been compared since 1994.

>>> examples = latch(count=2, length=5, seed=1)
>>> examples.x.shape, examples.asked[0].tolist()
((2, 5, 2), [False, False, False, False, True])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray

# Copying: symbols to remember, and how many there are to choose from (Arjovsky et al. 2016).
_COPIED, _SYMBOLS = 10, 8


class Examples(NamedTuple):
    """Sequences with their questions; `target` counts where `asked` is True and nowhere else.

    Args:
        x: float32 (count, time, features).
        target: int64 classes or float32 numbers, (count, time).
        asked: bool (count, time).
        classes: how many there are; 0 where the target is a number.
        chance: the loss of whoever knows the task and remembers nothing: cross-entropy in nats a
            question, or squared error.
    """

    x: Array
    target: Array
    asked: Array
    classes: int
    chance: float


def adding(count: int, length: int, seed: int = 0) -> Examples:
    """Add the two numbers that were marked (Hochreiter & Schmidhuber 1997).

    Each step has a number from 0 to 1 and a mark; one mark is in the first half, one in the second.
    """
    _check(count, length, 2)
    rng = np.random.default_rng(seed)
    values = rng.random((count, length), np.float32)
    marks = np.zeros((count, length), np.float32)
    rows, half = np.arange(count), length // 2
    marks[rows, rng.integers(0, half, count)] = 1
    marks[rows, rng.integers(half, length, count)] = 1
    x = np.stack([values, marks], 2)
    return _at_the_end(x, (values * marks).sum(1), 0, 1 / 6)


def latch(count: int, length: int, seed: int = 0) -> Examples:
    """Keep the first step's bit through noise (Bengio, Simard & Frasconi 1994).

    The bit stands alone in the first feature at step 0; the second feature is noise.
    """
    _check(count, length, 1)
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, count)
    x = np.zeros((count, length, 2), np.float32)
    x[:, 0, 0] = 2 * bits - 1
    x[..., 1] = rng.standard_normal((count, length), np.float32)
    return _at_the_end(x, bits, 2, np.log(2))


def parity(count: int, length: int, seed: int = 0) -> Examples:
    """Say after every step whether the ones so far are odd in number.

    Nothing of it can be answered by counting: each bit turns the answer over, for ever.
    """
    _check(count, length, 1)
    bits = np.random.default_rng(seed).integers(0, 2, (count, length))
    x = (2 * bits - 1).astype(np.float32)[..., None]
    target = (bits.cumsum(1) % 2).astype(np.int64)
    return Examples(x, target, np.ones(target.shape, bool), 2, float(np.log(2)))


def copying(count: int, length: int, seed: int = 0) -> Examples:
    """Repeat ten symbols after a pause (Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016).

    Ten of eight symbols, blanks, a signal, then ten blanks in which they are to be said again in
    order; `length` counts the steps from the last symbol to the first answer.
    """
    _check(count, length, 1)
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, _SYMBOLS, (count, _COPIED))
    tokens = np.full((count, length - 1 + 2 * _COPIED), _SYMBOLS)
    tokens[:, :_COPIED] = symbols
    tokens[:, -_COPIED] = _SYMBOLS + 1
    return _copied(tokens, symbols)


def selective_copying(count: int, length: int, seed: int = 0) -> Examples:
    """Repeat ten symbols that lie scattered among blanks (Jing et al. 2019; Gu & Dao 2023).

    As `copying`, but when a symbol comes is random: it is the content that says what to keep.
    `length` counts the steps in which the symbols lie.
    """
    _check(count, length, _COPIED)
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, _SYMBOLS, (count, _COPIED))
    places = np.sort(rng.permuted(np.tile(np.arange(length), (count, 1)), axis=1)[:, :_COPIED], 1)
    tokens = np.full((count, length + _COPIED), _SYMBOLS)
    np.put_along_axis(tokens, places, symbols, 1)
    tokens[:, -_COPIED] = _SYMBOLS + 1
    return _copied(tokens, symbols)


def delayed_recall(count: int, length: int, seed: int = 0, distractors: int = 5) -> Examples:
    """Say at the end which symbol was marked, though unmarked ones came after it.

    The marked symbol comes in the first tenth; `distractors` symbols of the same kind lie anywhere
    after it.
    """
    least = 10 * (distractors + 2) // 9 + 1
    _check(count, length, least)
    rng = np.random.default_rng(seed)
    rows = np.arange(count)
    x = np.zeros((count, length, _SYMBOLS + 1), np.float32)
    answer = rng.integers(0, _SYMBOLS, count)
    cue = rng.integers(0, max(length // 10, 1), count)
    x[rows, cue, answer] = x[rows, cue, _SYMBOLS] = 1
    order = rng.random((count, length))
    order[np.arange(length) <= cue[:, None]] = 2  # not before the cue
    places = np.argsort(order, 1)[:, :distractors]
    x[rows[:, None], places, rng.integers(0, _SYMBOLS, places.shape)] = 1
    return _at_the_end(x, answer, _SYMBOLS, np.log(_SYMBOLS))


TASKS = {
    "latch": latch,
    "adding": adding,
    "recall": delayed_recall,
    "parity": parity,
    "copying": copying,
    "selective copying": selective_copying,
}


def _check(count: int, length: int, least: int) -> None:
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if length < least:
        raise ValueError(f"length must be at least {least}, got {length}")


def _at_the_end(x: Array, answer: Array, classes: int, chance: float) -> Examples:
    asked = np.zeros(x.shape[:2], bool)
    asked[:, -1] = True
    target = np.zeros(x.shape[:2], np.int64 if classes else np.float32)
    target[:, -1] = answer
    return Examples(x, target, asked, classes, float(chance))


def _copied(tokens: Array, symbols: Array) -> Examples:
    """The last ten steps are to be answered by the symbols, which were read one-hot."""
    x = np.eye(_SYMBOLS + 2, dtype=np.float32)[tokens]
    asked = np.zeros(tokens.shape, bool)
    asked[:, -_COPIED:] = True
    target = np.zeros(tokens.shape, np.int64)
    target[:, -_COPIED:] = symbols
    return Examples(x, target, asked, _SYMBOLS, float(np.log(_SYMBOLS)))
