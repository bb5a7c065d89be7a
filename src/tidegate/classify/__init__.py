"""Labels and numbers from whole sequences, or one for each step.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> waves = [np.sin(np.arange(30) * (1 + i % 2) / 2) + rng.normal(size=30) / 9 for i in range(40)]
>>> labels = ["slow", "fast"] * 20
>>> GRUClassifier(steps=60).fit(waves, labels).predict(waves[:3]).tolist()
['slow', 'fast', 'slow']
"""

from ._classifier import GRUClassifier as GRUClassifier
from ._regressor import GRURegressor as GRURegressor
