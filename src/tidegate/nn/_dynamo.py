"""Let `torch.compile` look into our GRU.

Dynamo refuses every `torch.nn.GRU`, subclasses too, since torch's forward would be unrolled over
time. Ours calls one opaque operator. Dynamo is slow to import and often not needed, so the leave is
given when it is imported; it holds for our class alone.
"""

from __future__ import annotations

import importlib.machinery
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType

BUILDER = "torch._dynamo.variables.builder"


def allow(gru: type) -> None:
    """Let Dynamo trace modules of type `gru`, now or as soon as it is imported."""
    if BUILDER in sys.modules:
        _allow_in(sys.modules[BUILDER], gru)
    else:
        sys.meta_path.insert(0, _WhenImported(gru))


class _WhenImported(MetaPathFinder):
    def __init__(self, gru: type) -> None:
        self.gru = gru

    def find_spec(self, fullname, path, target=None):
        """Find Dynamo's builder as Python would, to be changed once it has run."""
        if fullname != BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_allow(module: ModuleType) -> None:
            run(module)
            _allow_in(module, self.gru)

        spec.loader.exec_module = run_and_allow
        return spec


def _allow_in(builder: ModuleType, gru: type) -> None:
    of_any = builder.VariableBuilder.wrap_module

    def wrap_module(self, value):
        if not isinstance(value, gru):
            return of_any(self, value)
        with builder.config.patch(allow_rnn=True):
            return of_any(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
