"""Networks that have learnt, and the way from sequences to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .._sequences import Reader, from_scaled, softmax
from ._network import EACH_STEP, Network

Array = np.ndarray

# Rows are answered so many numbers at a time, so that memory does not grow with their number.
_CHUNK = 2**22


@dataclass
class Model:
    """All that an answer needs, and that a file keeps.

    Args:
        reader: what the networks are shown.
        networks: their answers are averaged.
        temperature: what logits are divided by, so that probabilities hold what they say.
        center: what the number one stands for where numbers are predicted...
        spread: ...and the distance between two such.
    """

    reader: Reader
    networks: list[Network]
    temperature: float = 1.0
    center: float = 0.0
    spread: float = 1.0

    @property
    def per_step(self) -> bool:
        """Whether there is an answer at each step."""
        return self.networks[0].shape.pooling == EACH_STEP

    def probabilities(self, sequences: Sequence) -> list[Array]:
        """Of each class: (classes,) for each sequence, or (time, classes)."""
        return [
            np.mean([softmax(logits / self.temperature) for logits in answers], 0)
            for answers in self.answers(sequences)
        ]

    def numbers(self, sequences: Sequence) -> list[Array]:
        """A number for each sequence, or (time,)."""
        return [
            from_scaled(np.mean(answers, 0)[..., 0], self.center, self.spread)
            for answers in self.answers(sequences)
        ]

    @torch.no_grad()
    def answers(self, sequences: Sequence) -> list[list[Array]]:
        """For each sequence what each network says of it, in float64."""
        reads = np.array([self.reader.reads(len(sequence)) for sequence in sequences])
        order = np.argsort(reads, kind="stable")  # rows of a like length together
        found: list[list[Array]] = [[] for _ in sequences]
        for rows in self._chunks(order, reads):
            batch = self.reader.read([sequences[row] for row in rows])
            x, lengths = torch.from_numpy(batch.x), torch.from_numpy(batch.lengths)
            for network in self.networks:
                answers = network(x, lengths).numpy().astype(np.float64)
                for row, answer, length in zip(rows, answers, batch.lengths, strict=True):
                    found[row].append(answer[:length] if self.per_step else answer)
        return found

    def _chunks(self, order: Array, reads: Array) -> list[Array]:
        shape = self.networks[0].shape
        width = max(shape.embedding or shape.inputs, 4 * shape.states)
        chunks, begin = [], 0
        for end in range(1, len(order) + 1):
            full = end < len(order) and (end + 1 - begin) * reads[order[end]] * width > _CHUNK
            if full or end == len(order):
                chunks.append(order[begin:end])
                begin = end
        return chunks
