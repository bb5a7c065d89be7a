"""Persian number agreement: which cell still knows its subject when the verb comes.

Each network reads a sentence up to its verb (an embedding, one recurrent layer of 64 units, the
last state, a logistic output) and says whether the verb is plural. All are trained alike: as many
batches, the same sentences, the same schedule.

    python benchmarks/agreement.py                        # trained at one distance, tested there
    python benchmarks/agreement.py --mixed                # trained on 3 to 35 words, tested beyond
    python benchmarks/agreement.py --treebanks FOLDER --text FILE     # sentences as they occur
    python benchmarks/agreement.py --markdown             # the tables of all runs so far

Each run is a row of `--output`; runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tidegate.data.agreement import (
    SENTENCE,
    Pair,
    Treebank,
    generate,
    read_treebank,
    tokenize,
    vocabulary,
)
from tidegate.nn import GRU
from tidegate.train import Settings, train

DISTANCES = (31, 70, 168)
HIDDEN, EMBEDDING, BATCH, SENTENCES = 64, 32, 64, 8192
CELLS: dict[str, Callable[[int], nn.Module]] = {
    "plain RNN": lambda longest: nn.RNN(EMBEDDING, HIDDEN, batch_first=True),
    "LSTM": lambda longest: nn.LSTM(EMBEDDING, HIDDEN, batch_first=True),
    "GRU": lambda longest: GRU(EMBEDDING, HIDDEN, batch_first=True),
    "GRU, chrono": lambda longest: GRU(
        EMBEDDING, HIDDEN, batch_first=True, init="chrono", chrono_range=(2, longest)
    ),
    "GRU, 2 layers": lambda longest: GRU(EMBEDDING, HIDDEN, 2, batch_first=True),
    "GRU, 3 layers": lambda longest: GRU(EMBEDDING, HIDDEN, 3, batch_first=True),
}


@dataclass(frozen=True)
class Row:
    """One accuracy of one trained network."""

    training: str
    cell: str
    seed: int
    test: str
    attractors: str
    accuracy: float
    count: int
    seconds: float


class Words:
    """Words as numbers, and their last letters, which unknown words have too."""

    def __init__(self, words: Sequence[str], endings: Sequence[str] = ()):
        self.words = {word: i for i, word in enumerate(words, start=2)}
        self.endings = {ending: i for i, ending in enumerate(endings, start=2)}

    def encode(self, sentences: Sequence[Sequence[str]]) -> Tensor:
        """Padded in front, so that the verb is the next step for all: (2, batch, time)."""
        longest = max(map(len, sentences))
        ids = torch.zeros(2, len(sentences), longest, dtype=torch.long)
        for row, sentence in enumerate(sentences):
            for place, word in enumerate(sentence, start=longest - len(sentence)):
                ids[0, row, place] = self.words.get(word, 1)
                ids[1, row, place] = self.endings.get(word[-3:], 1)
        return ids


class Network(nn.Module):
    """Whether the next verb is plural."""

    def __init__(self, words: Words, cell: nn.Module):
        super().__init__()
        self.words = nn.Embedding(len(words.words) + 2, EMBEDDING, padding_idx=0)
        self.endings = nn.Embedding(len(words.endings) + 2, EMBEDDING, padding_idx=0)
        self.cell = cell
        self.output = nn.Linear(HIDDEN, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids[0])
        if self.endings.num_embeddings > 2:
            x = x + self.endings(ids[1])
        output, *_ = self.cell(x)
        return self.output(output[:, -1])[:, 0]


def run(
    name: str, seed: int, examples: Sequence[tuple[Sequence[str], bool]], words: Words, steps: int
) -> tuple[Network, float]:
    """A trained network, and the seconds of processor time that it took."""
    longest = max(len(sentence) for sentence, _ in examples)
    torch.manual_seed(seed)
    network = Network(words, CELLS[name](longest))
    batches = _batches(examples, words, seed)

    def loss(number: int) -> Tensor:
        ids, plural = batches(number)
        return nn.functional.binary_cross_entropy_with_logits(network(ids), plural)

    begun = time.process_time()
    train(network, loss, Settings(steps=steps, learning_rate=5e-3, seed=seed))
    return network, time.process_time() - begun


def _batches(
    examples: Sequence[tuple[Sequence[str], bool]], words: Words, seed: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Batches of like length, in an order of their own, encoded once."""
    rng = random.Random(seed)
    shuffled = rng.sample(examples, len(examples))
    shuffled.sort(key=lambda example: len(example[0]))
    chunks = [shuffled[i : i + BATCH] for i in range(0, len(shuffled), BATCH)]
    encoded = [
        (words.encode([s for s, _ in chunk]), torch.tensor([float(p) for _, p in chunk]))
        for chunk in chunks
    ]
    order = [i for epoch in range(100) for i in rng.sample(range(len(encoded)), len(encoded))]
    return lambda number: encoded[order[number % len(order)]]


@torch.no_grad()
def right(network: Network, words: Words, pairs: Sequence[Pair]) -> list[bool]:
    """For each pair, whether the network prefers the right verb."""
    network.eval()
    by_length = sorted(range(len(pairs)), key=lambda i: len(pairs[i].words))
    correct = [False] * len(pairs)
    for start in range(0, len(pairs), BATCH):
        chosen = by_length[start : start + BATCH]
        plural = network(words.encode([pairs[i].words for i in chosen])) > 0
        for i, is_plural in zip(chosen, plural.tolist(), strict=True):
            correct[i] = is_plural == (pairs[i].number == "plural")
    return correct


def examples_of(pairs: Sequence[Pair]) -> list[tuple[Sequence[str], bool]]:
    return [(pair.words, pair.number == "plural") for pair in pairs]


def generated(name: str, seed: int, distance: int | tuple[int, int], steps: int) -> list[Row]:
    """Train on made sentences; test at the same distance, or at all where it is a range."""
    words = Words(vocabulary())
    wide = (0, 3) if distance != 31 else (0, 2)
    mixed = isinstance(distance, tuple)
    pairs = generate(
        SENTENCES, distance=distance, attractors=(0, 2) if mixed else wide, seed=1000 + seed
    )
    network, seconds = run(name, seed, examples_of(pairs), words, steps)
    label = f"{distance[0]} to {distance[1]} words" if mixed else f"{distance} words"
    rows = []

    def add(test: str, attractors: str, pairs: Sequence[Pair]) -> None:
        correct = right(network, words, pairs)
        share = sum(correct) / len(correct)
        rows.append(Row(label, name, seed, test, attractors, share, len(correct), seconds))

    for far in DISTANCES if mixed else (distance,):
        for attractors in (0, 1, 2, 3):
            tests = generate(500, distance=far, attractors=attractors, seed=attractors)
            add(f"{far} words", str(attractors), tests)
        tests = generate(500, distance=far, attractors=(1, 2), relative=["conflicting"], seed=9)
        add(f"{far} words", "conflicting clause", tests)
    if mixed:
        add("the tutorial's sentence", "2", [SENTENCE])
    return rows


def occurring(name: str, seed: int, treebank: Treebank, text: Path, steps: int) -> list[Row]:
    """Train on the last verb of each sentence of a text; test on a treebank's animate subjects."""
    examples = list(_last_verbs(text, treebank.number))
    counts = Counter(word for sentence, _ in examples for word in sentence)
    endings = Counter(word[-3:] for sentence, _ in examples for word in sentence)
    words = Words(
        [word for word, count in counts.items() if count > 3],
        [ending for ending, count in endings.items() if count > 3],
    )
    network, seconds = run(name, seed, examples, words, steps)
    correct = right(network, words, treebank.pairs)
    rows = []
    for number in ("singular", "plural"):
        for label, attractors in (("0", {0}), ("1", {1}), ("2", {2}), ("3 or more", range(3, 99))):
            chosen = [
                is_right
                for pair, is_right in zip(treebank.pairs, correct, strict=True)
                if pair.number == number and pair.attractors in attractors
            ]
            share = sum(chosen) / len(chosen)
            rows.append(Row("text", name, seed, number, label, share, len(chosen), seconds))
    return rows


def _last_verbs(text: Path, number: dict[str, str]):
    """Sentences of a text up to their last verb of known number, and whether it is plural."""
    for line in text.read_text("utf-8").splitlines():
        words = tokenize(line)
        places = [i for i, word in enumerate(words) if i and word in number]
        if places:
            yield words[: places[-1]], number[words[places[-1]]] == "plural"


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    done = read(arguments.output)
    if arguments.markdown:
        print(markdown(done))
        return
    jobs = _jobs(arguments)
    for seed in range(arguments.seeds):
        for label, job in jobs:
            for name in arguments.cells:
                if any((r.training, r.cell, r.seed) == (label, name, seed) for r in done):
                    continue
                rows = job(name, seed)
                append(arguments.output, rows)
                mean = statistics.fmean(row.accuracy for row in rows)
                print(
                    f"{label}, {name}, seed {seed}: {mean:.1%}, {rows[0].seconds:.1f} s", flush=True
                )


def _jobs(arguments: argparse.Namespace) -> list[tuple[str, Callable[[str, int], list[Row]]]]:
    steps = arguments.steps
    if arguments.treebanks:
        treebank = read_treebank(arguments.treebanks)
        return [("text", lambda n, s: occurring(n, s, treebank, arguments.text, steps))]
    if arguments.mixed:
        return [("3 to 35 words", lambda n, s: generated(n, s, (3, 35), steps))]
    return [
        (f"{d} words", lambda n, s, d=d: generated(n, s, d, steps)) for d in arguments.distances
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--distances", nargs="+", type=int, default=DISTANCES)
    parser.add_argument("--cells", nargs="+", default=list(CELLS)[:4], choices=CELLS)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--treebanks", type=Path, help="a folder of CoNLL-U files")
    parser.add_argument("--text", type=Path, help="a text of one sentence a line to learn from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/agreement.jsonl"))
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if (arguments.treebanks is None) != (arguments.text is None):
        parser.error("--treebanks and --text go together")
    return arguments


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [Row(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def append(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def markdown(rows: Sequence[Row]) -> str:
    """A table for each training: a row for each test, a column for each cell."""
    tables = []
    for training in dict.fromkeys(row.training for row in rows):
        here = [row for row in rows if row.training == training]
        cells = [cell for cell in CELLS if any(row.cell == cell for row in here)]
        lines = [
            f"Trained on {training}:",
            "",
            f"| tested on | attractors | {' | '.join(cells)} |",
            "| --- | --- |" + " ---: |" * len(cells),
        ]
        for test, attractors in dict.fromkeys((row.test, row.attractors) for row in here):
            of_test = [r for r in here if (r.test, r.attractors) == (test, attractors)]
            shares = [_spread([r.accuracy for r in of_test if r.cell == c]) for c in cells]
            lines.append(f"| {test} | {attractors} | {' | '.join(shares)} |")
        if training == "text":
            shares = [_spread([_balanced(here, c, s) for s in _seeds(here, c)]) for c in cells]
            lines.append(f"| both numbers, each counting half | any | {' | '.join(shares)} |")
        seconds = [statistics.median(r.seconds for r in here if r.cell == c) for c in cells]
        lines.append("| seconds of training | | " + " | ".join(f"{s:.0f}" for s in seconds) + " |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _seeds(rows: Sequence[Row], cell: str) -> list[int]:
    return sorted({row.seed for row in rows if row.cell == cell})


def _balanced(rows: Sequence[Row], cell: str, seed: int) -> float:
    """The mean of the accuracies on singular and on plural subjects."""
    means = []
    for number in ("singular", "plural"):
        of_number = [r for r in rows if (r.cell, r.seed, r.test) == (cell, seed, number)]
        total = sum(row.count for row in of_number)
        means.append(sum(row.accuracy * row.count for row in of_number) / total)
    return statistics.fmean(means)


def _spread(shares: Sequence[float]) -> str:
    """The mean of the seeds, and the least and the greatest where they differ."""
    low, mean, high = min(shares), statistics.fmean(shares), max(shares)
    text = f"{100 * mean:.0f}"
    return text if high - low < 0.01 else f"{text} ({100 * low:.0f}-{100 * high:.0f})"


if __name__ == "__main__":
    main()
