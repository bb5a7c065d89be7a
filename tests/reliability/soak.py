"""Streams that run for long, in many threads, in memory that does not grow.

    python tests/reliability/soak.py [STEPS]

Eight threads share the steps: each has streams of its own, of a stack of layers, a classifier and a
language model, writes their states now and then, and begins anew from what it wrote.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from runtime_cases import gru_layer, linear
from tidegate.runtime import Model, Stack, load

KINDS = Path(__file__).parents[1] / "data" / "models"
THREADS, READINGS = 8, 20
# Of a hundred steps, so many are of another kind than a stack of layers: these take longer.
OTHERS = 1


def stack() -> Model:
    return Model(Stack([gru_layer(0, 2, 64), linear(1, 64, 1)]))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak:
    """Streams of every kind in one thread."""

    def __init__(self, models: dict[str, Model]):
        self.models = models
        self.layers = models["stack"].stream()
        self.labels, self.words = models["classifier"].stream(), models["language"].stream()
        self.x = np.random.default_rng(0).standard_normal((1000, 2))
        self.taken, self.sum = 0, 0.0

    def run(self, steps: int) -> None:
        """Take so many steps more."""
        step, rows = self.layers.step, self.x
        for i in range(steps):
            y = step(rows[i % 1000])
            if i % 100 < OTHERS:
                self.sum += float(y[0])
                self.labels.step(rows[i % 1000])
                self.words.step([i % 7])
        self.taken += steps
        held = self.layers.to_bytes({"steps": str(self.taken)})
        self.layers = self.models["stack"].stream()
        self.layers.from_bytes(held)
        self.labels.from_bytes(self.labels.to_bytes())


def soak(steps: int, tell: Callable[[int, int], None], leaked: int = 0) -> list[Soak]:
    """Run `steps` in all threads together; `tell` the steps so far and the memory, now and then.

    So many bytes a step are `leaked` on purpose.
    """
    kept = []
    models = {"stack": stack()}
    models |= {name: load(KINDS / f"{name}.safetensors") for name in ("classifier", "language")}
    runs = [Soak(models) for _ in range(THREADS)]
    share = steps // THREADS // READINGS
    with ThreadPoolExecutor(THREADS) as threads:
        for number in range(1, READINGS + 1):
            list(threads.map(lambda run: run.run(share), runs))
            kept.append(np.ones(leaked * share * THREADS, np.uint8))
            gc.collect()
            tell(number * share * THREADS, resident())
    return runs


def measured(steps: int, leaked: int = 0) -> tuple[list[int], list[tuple[int, float]]]:
    """The memory at each reading; and of each thread, the steps it took and its sum."""
    memory: list[int] = []
    runs = soak(steps, lambda _, resident: memory.append(resident), leaked)
    return memory, [(run.taken, run.sum) for run in runs]


if __name__ == "__main__":
    begun = time.perf_counter()

    def tell(steps: int, memory: int) -> None:
        seconds = time.perf_counter() - begun
        print(f"{steps:12,} steps  {memory / 1e6:7.2f} MB  {seconds:6.0f} s", flush=True)

    soak(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000, tell)
