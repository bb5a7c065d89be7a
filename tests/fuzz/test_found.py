"""What the fuzzer found once is refused in a sentence now; and honest files are still read."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import targets  # noqa: E402

from tidegate.runtime import load  # noqa: E402


@pytest.mark.parametrize("path", sorted((HERE / "found").iterdir()), ids=lambda path: path.name)
def test_found(path):
    name, _, _ = path.name.partition("-")
    targets.run(name, path.read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_the_fuzzer_went_through_is_read_or_refused(name):
    for data in targets.seeds(name):
        targets.run(name, data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_seed_cut_off_or_with_a_byte_changed_does_no_harm(name):
    for data in targets.seeds(name)[:2]:
        for place in range(0, len(data), max(1, len(data) // 40)):
            targets.run(name, data[:place])
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            targets.run(name, bytes(changed))


@pytest.mark.parametrize("kind", targets.RUN)
def test_the_honest_models_that_are_changed_open_and_run(kind):
    targets.RUN[kind](load(targets.KINDS / f"{kind}.safetensors"))
