"""Hypothesis settings for the whole suite: `--hypothesis-profile=brief` runs a quarter."""

import os

from hypothesis import HealthCheck, settings

# Continuous integration sees the same examples every time; a desk sees new ones.
EVERYWHERE = {
    "deadline": None,  # the first example of a run pays for imports and page faults
    "derandomize": "CI" in os.environ,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("full", max_examples=100, **EVERYWHERE)
settings.register_profile("brief", max_examples=25, **EVERYWHERE)
settings.load_profile("full")
