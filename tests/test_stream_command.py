"""`tidegate stream` in processes of its own: a line in, a line out, whatever happens to either."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from runtime_cases import embedding, gru_layer, linear
from tidegate.cli import main
from tidegate.runtime import Model, Stack, load

COMMAND = [sys.executable, "-c", "import sys; from tidegate.cli import main; sys.exit(main())"]
LINES = int(os.environ.get("TIDEGATE_STREAM_LINES", "40000"))  # of the stream that is killed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Model(Stack([gru_layer(0, 2, 16), linear(1, 16, 2)])).save("m.safetensors")
    Model(Stack([embedding(0, 5, 3), gru_layer(1, 3, 4)])).save("symbols.safetensors")
    return tmp_path


@contextmanager
def start(*arguments, **options):
    """The command in a process of its own; its pipes are closed at the end."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | options
    path = os.pathsep.join([str(Path(__file__).parents[1] / "src"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        [*COMMAND, "stream", *arguments], stderr=subprocess.PIPE, env=environment, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def run(text: bytes, *arguments) -> tuple[str, str, int]:
    """Output, errors and exit code of the command over a text."""
    with start(*arguments) as process:
        out, err = process.communicate(text, timeout=60)
    return out.decode(), err.decode(), process.returncode


def readings(count) -> tuple[np.ndarray, list[str]]:
    x = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    return x, [f"{a:.9g},{b:.9g}\n" for a, b in x]


def expected(x) -> np.ndarray:
    return load("m.safetensors").stream().run(x)


def numbers(lines) -> np.ndarray:
    return np.array([[float(field) for field in line.split(",")] for line in lines], np.float32)


def test_a_line_in_is_a_line_out_at_once(folder):
    x, lines = readings(5)
    answers = []
    with start("m.safetensors") as process:
        for line in lines:
            process.stdin.write(line.encode())
            process.stdin.flush()
            answers.append(process.stdout.readline().decode())  # would wait for ever
        assert process.communicate(timeout=60) == (b"", b"")
    np.testing.assert_array_equal(numbers(answers), expected(x))
    assert process.returncode == 0


def test_bad_lines_are_reported_with_their_number_and_skipped(folder):
    x, lines = readings(4)
    bad = ["1,2,3", "a,b", "", "1,", "nan,1", "1,inf", "\xff", "1" * 3_000_000]
    good = [line.strip() for line in lines]
    mixed = ["left,right", good[0], *bad, good[1], good[2], " 7 ", good[3]]
    out, err, code = run("\n".join(mixed).encode("latin-1"), "m.safetensors")
    heading, *answers = out.splitlines()
    assert heading == "y1,y2"
    np.testing.assert_array_equal(numbers(answers), expected(x))
    told = err.splitlines()
    reported = [re.match(r"tidegate: line (\d+): .*: skipped$", line).group(1) for line in told]
    assert reported == [str(number) for number in (*range(3, 11), 13)]
    assert told[0] == "tidegate: line 3: 3 numbers instead of 2: skipped"
    assert code == 0


def test_whole_numbers_are_read_where_the_model_takes_those(folder):
    out, err, _ = run(b"3\n0\n5\n1.5\n4\n", "symbols.safetensors")
    answers = numbers(out.splitlines())
    np.testing.assert_array_equal(answers, load("symbols.safetensors").stream().run([3, 0, 4]))
    assert "line 3: x must be from 0 to 4, not 5: skipped" in err
    assert "line 4: '1.5' is no whole number: skipped" in err


def test_a_closed_pipe_is_quiet(folder):
    _, lines = readings(5000)
    with start("m.safetensors", "--state", "s") as process:
        process.stdin.write("".join(lines[:3]).encode())
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.write("".join(lines[3:]).encode())
            process.stdin.flush()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
    stream = load("m.safetensors").stream()
    notes = stream.from_bytes(Path("s").read_bytes())
    assert int(notes["lines"]) == stream.steps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_the_state_and_a_later_run_goes_on(folder, number, code):
    x, lines = readings(60)
    with start("m.safetensors", "--state", "s") as process:
        process.stdin.write("".join(lines[:25]).encode())
        process.stdin.flush()
        first = [process.stdout.readline().decode() for _ in range(25)]
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr.read() == b""
    out, err, _ = run("".join(lines[25:]).encode(), "m.safetensors", "--state", "s")
    assert err == "tidegate: s: going on after line 25\n"
    np.testing.assert_array_equal(numbers(first + out.splitlines()), expected(x))


def test_a_killed_stream_goes_on_from_what_it_wrote_last(folder):
    x, lines = readings(LINES)
    options = ("m.safetensors", "--state", "s", "--every", "0.02")
    with open("out.csv", "w") as sink, start(*options, stdout=sink) as process:
        process.stdin.write("".join(lines[: LINES // 2]).encode())
        while not Path("s").exists() and process.poll() is None:
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL  # `start` kills
    notes = load("m.safetensors").stream().from_bytes(Path("s").read_bytes())
    done = int(notes["lines"])
    assert 0 < done <= LINES // 2
    answers = Path("out.csv").read_text().splitlines()[:done]
    assert len(answers) == done
    out, _, _ = run("".join(lines[done:]).encode(), "m.safetensors", "--state", "s")
    np.testing.assert_array_equal(numbers(answers + out.splitlines()), expected(x))


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["no.safetensors"], "no.safetensors: there is no such file"),
        (
            ["m.safetensors", "--state", "of_another"],
            "of_another: the state is of a stream",
        ),
        (["m.safetensors", "--state", "cut"], "cut: the state of a stream cannot be read"),
        (["m.safetensors", "--state", "m.safetensors/s"], "cannot write into m.safetensors"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(folder, capsys, tokens, sentence):
    state = load("symbols.safetensors").stream().to_bytes({"lines": "3"})
    Path("of_another").write_bytes(state)
    Path("cut").write_bytes(state[:50])
    assert main(["stream", *tokens]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
