"""What docs/runtime.md shows is so: its blocks run in turn, and its program compiles."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tidegate.cli import main
from tidegate.runtime import load

PAGE = (Path(__file__).parents[2] / "docs/runtime.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["block"].shape == (480, 1)
    readings = np.random.default_rng(0).standard_normal((50, 1))
    np.savetxt("readings.csv", readings)
    commands = "".join(blocks("bash")).splitlines()
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command.partition("<")[0])
        if words[1] != "stream":
            assert main(words[1:]) == 0
    assert "over 50 steps the outputs are" in capfd.readouterr().out
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    (program,) = blocks("c")
    Path("main.c").write_text(program)
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], check=True)
    text = Path("readings.csv").read_bytes()
    answer = subprocess.run(["./main"], input=text, capture_output=True, check=True)
    expected = load("amplifier.safetensors").stream().run(readings)
    np.testing.assert_allclose(np.loadtxt(answer.stdout.splitlines()), expected[:, 0], atol=1e-4)
