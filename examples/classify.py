"""Tell by its readings which of three ways a machine runs, some readings missing.

Needs: pip install 'tidegate[torch]'
"""

import numpy as np

from tidegate.classify import GRUClassifier

rng = np.random.default_rng(0)
WAYS = ("steady", "surging", "stalling")


def run(way: str) -> np.ndarray:
    """Speed and load, a reading a second; every tenth is missing."""
    time = np.arange(rng.integers(40, 90))
    speed = 100 + rng.normal(0, 1, len(time))
    if way == "surging":
        speed += 3 * np.sin(time / rng.uniform(2, 4))
    if way == "stalling":
        speed -= 6 * (time > rng.integers(10, len(time) - 10))
    readings = np.stack([speed, 0.2 * speed + rng.normal(0, 0.3, len(time))], 1)
    readings[rng.random(readings.shape) < 0.1] = np.nan
    return readings


labels = list(WAYS) * 60
runs = [run(way) for way in labels]
model = GRUClassifier(seed=0).fit(runs[:120], labels[:120])
print(f"{model.score(runs[120:], labels[120:]):.1%} of 60 new runs are labelled right")
for way, chances in zip(labels[120:123], model.predict_proba(runs[120:123]), strict=True):
    said = ", ".join(f"{name} {p:.0%}" for name, p in zip(model.classes_, chances, strict=True))
    print(f"{way}: {said}")
