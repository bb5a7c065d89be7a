"""The machine code of the serial kernels: no spills, weights loaded once, one barrier a step."""

import importlib.util
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tidegate.nn.gpu import _nvrtc
from tidegate.nn.gpu._build import SERIAL, Build, build_for, sources
from tidegate.nn.gpu._cubin import options_of

nvidia = importlib.util.find_spec("nvidia")
TOOLS = [
    tool
    for place in (nvidia.submodule_search_locations or () if nvidia else ())
    for tool in Path(place).glob("*/bin/nvdisasm*")
]
pytestmark = pytest.mark.skipif(
    not TOOLS, reason="nvidia-cuda-nvrtc and nvidia-cuda-nvdisasm have no wheels for this machine"
)

CASES = [
    ("sm_80", "bfloat16", 128, "after"),
    ("sm_80", "float32", 128, "before"),
    ("sm_90", "float16", 100, "before"),
    ("sm_90", "bfloat16", 256, "after"),
    ("sm_90", "float32", 256, "after"),
    ("sm_100", "tf32", 250, "after"),
    ("sm_100", "float32", 96, "after"),
    ("sm_100", "tf32", 129, "before"),
]
LABEL = re.compile(r"\s*(\.L_x_\d+):")
BRANCH = re.compile(r"\bBRA\S*\s.*?(\.L_x_\d+)")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)")


def disassemble(build: Build, architecture: str, path: Path) -> dict[str, list[str]]:
    """Lines of each kernel."""
    path.write_bytes(_nvrtc.compile_source(sources(), options_of(build, architecture)))
    command = [str(TOOLS[0]), "-c", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\.text\.(\w+):", text, flags=re.M)
    return {name: body.splitlines() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def names(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := INSTRUCTION.match(line))]


def count(lines: list[str]) -> Counter:
    return Counter(names(lines))


def loops_over_time(lines: list[str]) -> list[list[str]]:
    """What is in each stretch with products that ends in a branch back to its beginning.

    There may be several: a compiler makes copies of a loop where what it asks never changes.
    """
    labels = {found[1]: i for i, line in enumerate(lines) if (found := LABEL.match(line))}
    branches = [(found[1], i) for i, line in enumerate(lines) if (found := BRANCH.search(line))]
    stretches = [(labels.get(label, i), i) for label, i in branches]
    loops = [names(lines[start : end + 1]) for start, end in stretches if start < end]
    return [loop for loop in loops if "HMMA" in loop]


@pytest.mark.parametrize(("architecture", "kind", "hidden", "reset"), CASES)
def test_a_step_touches_nothing_that_could_have_stayed(tmp_path, architecture, kind, hidden, reset):
    before = reset == "before"
    build = build_for(kind, hidden, before)
    kernels = disassemble(build, architecture, tmp_path / "gru.cubin")
    number = 2 if kind in ("float16", "bfloat16") else 4
    tiles, parts = build.padded * number // 32, 3 if kind == "float32" else 1
    for name in SERIAL:
        whole, loops = count(kernels[name]), loops_over_time(kernels[name])
        assert not whole["LDL"] + whole["STL"], "registers were spilled"
        assert loops
        for loop in loops:
            step = Counter(loop)
            assert step["HMMA"] == 3 * tiles * parts
            # Only what comes of the input: of each of two rows three gates; or four or five
            # coefficients and the output's gradient; twice as many where units are odd. Of each of
            # four cells keep; and the number of a packed row.
            rows = 2 * (3 if name == "gru_forward" else 5 + before)
            assert step["LDG"] <= rows * (1 + hidden % 2) + 4 + 1
            # The fragments that registers do not hold, sixteen bytes at a time, and nothing else.
            assert step["LDS"] == 3 * (tiles - build.held)
            factors = 3 if name == "gru_backward" else 1 + before
            assert step["LDSM"] == factors * tiles // 2
            barriers = "BAR" if build.cluster == 1 else "UCGABAR_WAIT"
            assert step[barriers] == 1 + before
            if build.cluster > 1 and name == "gru_forward":
                # No block waits until the others' outputs are in global memory.
                places = [i for i, instruction in enumerate(loop) if instruction == "STG"]
                arrival = len(loop) - loop[::-1].index("UCGABAR_ARV")
                assert arrival <= min(places) < max(places) < loop.index("UCGABAR_WAIT", arrival)


def test_a_loop_that_spills_would_be_seen(tmp_path):
    build = build_for("float32", 128, False)._replace(held=16)
    kernels = disassemble(build, "sm_90", tmp_path / "gru.cubin")
    whole = count(kernels["gru_forward"])
    assert whole["LDL"] + whole["STL"]
