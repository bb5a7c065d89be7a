"""Agreement as it occurs: subjects and verbs of Persian treebanks in the CoNLL-U format.

Universal Dependencies has two for Persian, Seraji and PerDT (both CC BY-SA 4.0). PerDT says which
nouns are animate (N_ANM); in the others, a noun counts as what PerDT mostly calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from ._pair import Pair

_FIELDS = 10
_NUMBER = {"Sing": "singular", "Plur": "plural"}
_ANIMATE, _INANIMATE = "N_ANM", "N_IANM"
# One word for many people: its verb may take either number.
_COLLECTIVES = (
    "ارتش تعداد تیم جامعه جمع جمعیت حزب خانواده دولت سپاه شورا عده قوم گروه مجلس ملت نفر هیئت"
)
_COPULA = {"است": "هستند", "نیست": "نیستند"}


class _Token(NamedTuple):
    id: str
    form: str
    lemma: str
    kind: str
    tag: str
    features: dict[str, str]
    head: str
    relation: str
    place: int  # among the words as written; parts of one word share it


_Sentence = tuple[list[str], list[_Token]]  # as written, and as analysed


@dataclass(frozen=True)
class Treebank:
    """What a folder of treebanks has on agreement.

    Attributes:
        pairs: sentences up to a verb, with an animate subject of the verb's own number before it.
        number: the number of every verb form found, without those of both numbers.
        disagreeing: how many such subjects had a verb of the other number; not among the pairs.
    """

    pairs: list[Pair]
    number: dict[str, str]
    disagreeing: int


def read_treebank(folder: str | Path) -> Treebank:
    """Read every `*.conllu` file of a folder.

    A pair has for its subject an animate noun that is no collective, alone and not counted, and
    after it a finite verb of the third person. The verb's other number is formed by rule (کرد,
    کردند; می‌کند, می‌کنند); a verb whose numbers differ by more than an ending is left out.

    Args:
        folder: the folder.

    Raises:
        InputError: there is no such folder or no such file in it, or a file is not CoNLL-U.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    paths = sorted(folder.glob("*.conllu"))
    if not paths:
        raise InputError(f"{folder} has no file that ends in .conllu")
    sentences = [sentence for path in paths for sentence in _sentences(path)]
    animate, number = _animate(sentences), _numbers(sentences)
    pairs, disagreeing = [], 0
    for words, tokens in sentences:
        for subject, verb in _subjects(tokens, animate):
            if subject.features["Number"] != verb.features["Number"]:
                disagreeing += 1
            elif other := _other_number(verb, number):
                pairs.append(_pair(words, tokens, subject, verb, other))
    return Treebank(pairs, number, disagreeing)


def _sentences(path: Path) -> Iterator[_Sentence]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: byte {error.start}") from None
    words, tokens, whole = [], [], ""
    for line_number, line in enumerate([*lines, ""], start=1):
        fields = line.split("\t")
        if not line.strip():
            if tokens:
                yield words, tokens
            words, tokens, whole = [], [], ""
        elif not line.startswith("#"):
            if len(fields) != _FIELDS:
                raise InputError(
                    f"{path}, line {line_number}: a line of CoNLL-U has {_FIELDS} fields, not "
                    f"{len(fields)}"
                )
            if "-" in fields[0]:  # one written word of several tokens
                words.append(fields[1])
                whole = fields[0].partition("-")[2]
            elif fields[0].isdigit():
                if not whole:
                    words.append(fields[1])
                tokens.append(_token(fields, len(words) - 1))
                whole = "" if fields[0] == whole else whole


def _token(fields: list[str], place: int) -> _Token:
    features = dict(part.split("=", 1) for part in fields[5].split("|") if "=" in part)
    id, form, lemma, kind, tag, _, head, relation, *_ = fields
    return _Token(id, form, lemma, kind, tag, features, head, relation, place)


def _animate(sentences: list[_Sentence]) -> set[str]:
    """Lemmas of common nouns that are animate more often than not."""
    score = Counter()
    for _, tokens in sentences:
        for token in tokens:
            score[token.lemma] += (token.tag == _ANIMATE) - (token.tag == _INANIMATE)
    return {lemma for lemma, excess in score.items() if excess > 0} - set(_COLLECTIVES.split())


def _numbers(sentences: list[_Sentence]) -> dict[str, str]:
    """The number of each finite form of the third person."""
    seen = {}
    for _, tokens in sentences:
        for token in filter(_finite, tokens):
            seen.setdefault(token.form, set()).add(_NUMBER[token.features["Number"]])
    return {form: numbers.pop() for form, numbers in seen.items() if len(numbers) == 1}


def _finite(token: _Token) -> bool:
    features = token.features
    return (
        token.kind in ("VERB", "AUX")
        and features.get("Person") == "3"
        and features.get("Number") in _NUMBER
        and features.get("VerbForm", "Fin") == "Fin"
        and (features["Number"] == "Sing" or token.form.endswith("ند"))
        and not token.form.endswith(("ه", "\u200cاند"))  # participles, and what begins with one
    )


def _subjects(tokens: list[_Token], animate: set[str]) -> Iterator[tuple[_Token, _Token]]:
    """Animate subjects, each with the finite verb after it that carries its number."""
    children = {}
    for token in tokens:
        children.setdefault(token.head, []).append(token)
    by_id = {token.id: token for token in tokens}
    for subject in tokens:
        head = by_id.get(subject.head)
        if head is None or not _fits(subject, animate, children.get(subject.id, [])):
            continue
        helpers = [t for t in children[head.id] if t.relation.startswith(("aux", "cop"))]
        verbs = [t for t in (*helpers, head) if _finite(t)]
        if verbs and verbs[0].place > subject.place:
            yield subject, verbs[0]


def _fits(token: _Token, animate: set[str], children: list[_Token]) -> bool:
    return (
        token.kind == "NOUN"
        and token.relation.startswith("nsubj")
        and token.lemma in animate
        and token.features.get("Number") in _NUMBER
        and not any(child.relation.startswith(("conj", "nummod")) for child in children)
    )


def _other_number(verb: _Token, number: dict[str, str]) -> str | None:
    """The same verb in the other number, where an ending makes it."""
    form, past = verb.form, verb.features.get("Tense") == "Past"
    if verb.features["Number"] == "Sing":
        if form in _COPULA:
            return _COPULA[form] if verb.relation == "cop" else None
        guesses = [form + "ند"] if past else [form[:-1] + "ند"] if form.endswith("د") else []
        if "Tense" not in verb.features:
            guesses = [guess for guess in (form + "ند", form[:-1] + "ند") if guess in number]
    else:
        back = {plural: singular for singular, plural in _COPULA.items()}
        if form in back:
            return back[form]
        guesses = [form[:-2] if past else form[:-2] + "د"]
        if "Tense" not in verb.features:
            guesses = [guess for guess in (form[:-2], form[:-2] + "د") if guess in number]
    return guesses[0] if len(guesses) == 1 else None


def _pair(
    words: list[str], tokens: list[_Token], subject: _Token, verb: _Token, other: str
) -> Pair:
    between = [t for t in tokens if subject.place < t.place < verb.place]
    return Pair(
        words=tuple(words[: verb.place]),
        good=verb.form,
        bad=other,
        number=_NUMBER[subject.features["Number"]],
        subject=subject.place,
        attractors=sum(
            t.kind in ("NOUN", "PROPN")
            and t.features.get("Number") in set(_NUMBER) - {subject.features["Number"]}
            for t in between
        ),
    )
