"""A small grammar of Persian in which the verb's number hangs on one word, as far back as asked.

The subject is human, since only then is a plural verb obligatory; no collective noun, title of
respect, coordination or "together with" makes the right verb doubtful. Persian counts with the
singular noun: «سه معلم … رسیدند» takes the plural, «هر معلم … رسید» the singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from random import Random
from typing import NamedTuple

from . import _words as w
from ._pair import Pair

NUMBERS = ("singular", "plural")
RELATIVES = ("none", "subject", "object", "conflicting")
_TRIES = 1000

Range = int | tuple[int, int]

_SENTENCE = (
    "دانش\u200cآموزان پس از گفتگو با معلم در مسابقه شرکت کرده و به درخواست مدیر از آزمون سربلند "
    "بیرون آمده و به مقام نخست دست پیدا"
)
SENTENCE = Pair(
    words=tuple(_SENTENCE.split()),
    good="کردند",
    bad="کرد",
    number="plural",
    subject=0,
    attractors=2,
)


def generate(
    count: int,
    *,
    distance: Range = (3, 30),
    attractors: Range = (0, 2),
    companions: Range = (0, 2),
    relative: Sequence[str] = RELATIVES,
    number: Sequence[str] = NUMBERS,
    seed: int = 0,
) -> list[Pair]:
    """Make sentences with a human subject and the verb in both numbers.

    A range is drawn from evenly; a draw whose parts do not fit its distance is drawn again. A
    network can only learn what the right verb depends on if its sentences do not give it away
    otherwise. Hence the companions: with attractors alone, "not the number of the noun nearby"
    would do. And hence the conflicting clauses, «معلمانی که پزشک دید … رفتند»: without them,
    copying the nearest verb would.

    Args:
        count: how many sentences.
        distance: words from the subject's noun to the verb, a number or (least, most).
        attractors: nouns of the other number between subject and verb, likewise.
        companions: nouns of the subject's own number there, likewise.
        relative: kinds of relative clause to choose from: "none"; "subject", whose verb agrees with
            the sentence's subject; "object", whose verb agrees with a companion; "conflicting",
            whose verb agrees with an attractor. Its noun is one of those two.
        number: of the subject, to choose from.
        seed: the same sentences for the same arguments.

    Raises:
        ValueError: an argument is out of range, or no sentence fits the distance.

    Example:
        >>> pair = generate(1, distance=12, attractors=1, number=["plural"], seed=1)[0]
        >>> pair.distance, pair.attractors, pair.number
        (12, 1, 'plural')
    """
    plan = _Plan(
        distance=_range("distance", distance, least=1),
        attractors=_range("attractors", attractors),
        companions=_range("companions", companions),
        relative=_choices("relative", relative, RELATIVES),
        number=_choices("number", number, NUMBERS),
    )
    rng = Random(seed)
    return [_one(rng, plan) for _ in range(count)]


def vocabulary() -> list[str]:
    """Every word that the grammar can use, sorted."""
    texts = [*w.ADJECTIVES, *w.NUMERALS, *w.THESE, w.EVERY, w.WHO, w.OBJECT, w.AND]
    texts += [*w.MENTIONS, *w.PARTICIPLES, *w.ADVERBIALS]
    for predicate in (*w.PREDICATES, *w.RELATIVE_VERBS):
        texts += predicate
    for noun in w.NOUNS:
        for form in (noun.singular, noun.plural):
            texts += [form, w.linked(form), w.defined(form)]
    return sorted({word for text in texts for word in text.split()})


class _Plan(NamedTuple):
    """What to draw from."""

    distance: tuple[int, int]
    attractors: tuple[int, int]
    companions: tuple[int, int]
    relative: list[str]
    number: list[str]


def _one(rng: Random, plan: _Plan) -> Pair:
    for _ in range(_TRIES):
        pair = _sentence(
            rng,
            distance=rng.randint(*plan.distance),
            attractors=rng.randint(*plan.attractors),
            companions=rng.randint(*plan.companions),
            relative=rng.choice(plan.relative),
            number=rng.choice(plan.number),
        )
        if pair is not None:
            return pair
    raise ValueError(
        f"no sentence has these parts at a distance of {plan.distance[0]} to {plan.distance[1]} "
        "words: allow a larger distance, other relative clauses, or fewer nouns"
    )


def _sentence(
    rng: Random, distance: int, attractors: int, companions: int, relative: str, number: str
) -> Pair | None:
    """A sentence of these parts, or None where they cannot be together or have this distance."""
    other = NUMBERS[number == "singular"]
    numbers = [other] * attractors + [number] * companions
    rng.shuffle(numbers)
    subject, *people = rng.sample(w.NOUNS, 1 + len(numbers))
    clause = []
    if relative != "none":
        wanted = {"subject": numbers[:1], "object": [number], "conflicting": [other]}[relative]
        if not wanted or wanted[0] not in numbers:
            return None
        numbers.remove(wanted[0])
        clause = _clause(rng, people.pop().form(wanted[0]), relative, number, wanted[0])
    before, head, after = _subject(rng, subject, number, bool(clause))
    modifiers = [
        [*rng.choice(w.MENTIONS).split(), *_person(rng, noun.form(its))]
        for noun, its in zip(people, numbers, strict=True)
    ]
    rest, singular, plural = rng.choice(w.PREDICATES)
    room = distance - 1 - sum(map(len, (after, clause, *modifiers, rest.split())))
    if room < 0:
        return None
    modifiers += _fillers(rng, room)
    rng.shuffle(modifiers)
    good, bad = (singular, plural) if number == "singular" else (plural, singular)
    words = (*before, head, *after, *clause, *chain(*modifiers), *rest.split())
    return Pair(words, good, bad, number, len(before), attractors, relative)


def _subject(
    rng: Random, noun: w.Noun, number: str, relative: bool
) -> tuple[list[str], str, list[str]]:
    """What stands before the subject's noun, the noun, and its adjective."""
    head, before = noun.form(number), []
    opening = rng.random()
    if opening < 0.15:
        head = noun.singular  # also of many: three teacher
        before = [w.EVERY] if number == "singular" else [rng.choice(w.NUMERALS)]
    elif opening < 0.3 and not relative:
        before = [rng.choice(w.THESE)]
    if relative:
        return before, w.defined(head), []
    head, *adjective = _person(rng, head)
    return before, head, adjective


def _person(rng: Random, noun: str) -> list[str]:
    """A noun, at times with an adjective."""
    if rng.random() < 0.3:
        return [w.linked(noun), rng.choice(w.ADJECTIVES)]
    return [noun]


def _clause(rng: Random, person: str, relative: str, number: str, its: str) -> list[str]:
    """A relative clause, whose verb agrees with the sentence's subject or with its own."""
    agrees_with = number if relative == "subject" else its
    verb = rng.choice(w.RELATIVE_VERBS)[NUMBERS.index(agrees_with)]
    marker = [w.OBJECT] if relative == "subject" else []
    return [w.WHO, person, *marker, *verb.split()]


def _fillers(rng: Random, room: int) -> list[list[str]]:
    """Phrases without a number, of `room` words together; none twice before all have been."""
    chosen, pool = [], []
    while room:
        fitting = [phrase for phrase in pool if len(phrase) <= room]
        if not fitting:
            pool = [[*text.split(), w.AND] for text in w.PARTICIPLES]
            pool += [text.split() for text in w.ADVERBIALS]
            continue
        phrase = rng.choice(fitting)
        pool.remove(phrase)
        chosen.append(phrase)
        room -= len(phrase)
    return chosen


def _range(name: str, value: Range, least: int = 0) -> tuple[int, int]:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not least <= low <= high:
        raise ValueError(
            f"{name} must be a number, or (least, most), of at least {least}; got {value}"
        )
    return low, high


def _choices(name: str, value: Sequence[str], options: Sequence[str]) -> list[str]:
    wrong = [choice for choice in value if choice not in options]
    if isinstance(value, str) or wrong or not value:
        raise ValueError(f"{name} must be a list of some of {', '.join(options)}; got {value!r}")
    return list(value)
