"""Hypothesis settings, and the shape annotations of the equations, checked."""

import os
import signal
import typing

import beartype.roar  # noqa: F401, like NumPy before TYPE_CHECKING is set below
import numpy.typing  # noqa: F401
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Continuous integration sees the same examples every time; a desk sees new ones.
EVERYWHERE = {
    "deadline": None,  # the first example of a run pays for imports and page faults
    "derandomize": "CI" in os.environ,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("full", max_examples=100, **EVERYWHERE)
settings.register_profile("brief", max_examples=25, **EVERYWHERE)
settings.load_profile("full")

# Ctrl-C reaches what the tests start, also where the tests themselves run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A user needs no jaxtyping: it is imported for type checkers only. Here it is imported for real, so
# that every call of the equations checks the shapes that their signatures promise.
typing.TYPE_CHECKING = True
with install_import_hook("tidegate.reference", "beartype.beartype"):
    import tidegate.reference  # noqa: F401
typing.TYPE_CHECKING = False
