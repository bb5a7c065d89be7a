"""One step at a time: Tidegate's streams beside ONNX Runtime and RTNeural, in one run, by turns.

    python benchmarks/stream.py
    python benchmarks/stream.py --rtneural RTNEURAL    # a checkout of it, with Eigen in modules/

A model is one GRU layer of H units that reads a number, and a linear head that gives one: what an
amplifier's model is. Each peer's outputs are compared with ours before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from tidegate import _kernels
from tidegate.export import to_onnx_model, write
from tidegate.runtime import GRU, Linear, Model, Stack
from tidegate.weights import GRUWeights

SIZES = (8, 16, 32, 64, 128, 256, 512)
LARGEST_CONSTANT = 64  # beyond, RTNeural's matrices outgrow the stack that Eigen allows
RATE = 48_000  # samples a second of audio
HERE = Path(__file__).parent
Row = dict[str, float]


def make_model(hidden: int) -> Model:
    rng, scale = np.random.default_rng(hidden), hidden**-0.5

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    weights = GRUWeights(
        uniform(3 * hidden, 1),
        uniform(3 * hidden, hidden),
        uniform(3 * hidden),
        uniform(3 * hidden),
    )
    return Model(Stack([GRU((weights,)), Linear(uniform(1, hidden), uniform(1))]))


def onnx_step(model: Model, x: np.ndarray) -> tuple[Callable[[], None], Callable[[], float]]:
    """A step of ONNX Runtime with every buffer bound, and what it gave last.

    Two bindings hand the state to and fro.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    data = to_onnx_model(model, states=True).SerializeToString()
    session = ort.InferenceSession(data, options, ["CPUExecutionProvider"])
    names_in = [i.name for i in session.get_inputs()]
    names_out = [o.name for o in session.get_outputs()]
    h_in = next(name for name in names_in if name.startswith("h_0"))
    h_out = next(name for name in names_out if name.startswith("h_n"))
    hidden = model.stack.state_sizes[0]
    states = [ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, hidden), np.float32)) for _ in "ab"]
    y = ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, 1), np.float32))
    x_value = ort.OrtValue.ortvalue_from_numpy(x.reshape(1, 1, 1))
    bindings = []
    for here, there in ((0, 1), (1, 0)):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x_value)
        binding.bind_ortvalue_input(h_in, states[here])
        binding.bind_ortvalue_output("y", y)
        binding.bind_ortvalue_output(h_out, states[there])
        bindings.append(binding)
    turn = 0

    def step() -> None:
        nonlocal turn
        session.run_with_iobinding(bindings[turn])
        turn = 1 - turn

    return step, lambda: y.numpy().item()


def time_of(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count * 1e6


@dataclass
class Peer:
    """A checkout of RTNeural, and where its programs are kept once they are compiled."""

    source: Path
    programs: Path


def rtneural(hidden: int, model: Model, x: np.ndarray, peer: Peer, repeats: int) -> list[float]:
    """Microseconds a sample of RTNeural, and its last output, of its fastest backend.

    Its sizes are constants of the program up to `LARGEST_CONSTANT`, and read with the model beyond.
    """
    constant = hidden if hidden <= LARGEST_CONSTANT else 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write(model, Path(folder) / "model.json", "rtneural")
        x.tofile(Path(folder) / "x.f32")
        for backend in BACKENDS:
            program = peer.programs / f"{backend}-{constant}"
            if not program.exists():
                compile_rtneural(program, backend, constant, peer.source)
            command = [program, f"{folder}/model.json", f"{folder}/x.f32", str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            *times, y = [float(word) for word in done.stdout.split()]
            results.append([statistics.median(times) / 1e3, y])
    return min(results)


# Its folder of modules, the alignment it takes, and flags. RTNeural's fastest is what we report.
BACKENDS = {
    "EIGEN": ("modules/Eigen", 32, []),
    "XSIMD": ("modules/xsimd/include", 64, []),
    "XSIMD-avx2": ("modules/xsimd/include", 32, ["-mno-avx512f"]),
}


def compile_rtneural(program: Path, backend: str, hidden: int, source: Path) -> None:
    module, alignment, flags = BACKENDS[backend]
    definitions = [f"RTNEURAL_USE_{backend.partition('-')[0]}=1", f"HIDDEN={hidden}", "NDEBUG"]
    definitions += ["RTNEURAL_NAMESPACE=RTNeural", f"RTNEURAL_DEFAULT_ALIGNMENT={alignment}"]
    command = ["g++", "-std=c++17", "-O3", "-march=native", "-w", *flags]
    command += [f"-D{definition}" for definition in definitions]
    command += [f"-I{source / folder}" for folder in ("", module, "modules/json")]
    sources = [str(HERE / "stream_rtneural.cpp"), str(source / "RTNeural" / "RTNeural.cpp")]
    subprocess.run([*command, *sources, "-o", str(program)], check=True)


def measure(hidden: int, seconds: float, peer: Peer | None) -> Row:
    model = make_model(hidden)
    samples = np.random.default_rng(0).uniform(-1, 1, 4800).astype(np.float32)
    x = samples[:1]
    stream, block = model.stream(), model.stream()
    narrow = {storage: model.stream(storage=storage) for storage in ("bfloat16", "int8")}
    onnx, answer = onnx_step(model, x)
    for _ in range(3):
        onnx()
        ours, theirs = stream.step(x).item(), answer()
    assert abs(ours - theirs) < 1e-5, f"outputs are {ours} and {theirs}"
    stream.reset()
    last = block.run(samples[:, None])[-1, 0]
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: stream.step(x),
        "bfloat16": lambda: narrow["bfloat16"].step(x),
        "int8": lambda: narrow["int8"].step(x),
        "onnx": onnx,
    }
    counts = {name: max(int(2e3 / max(time_of(call, 20), 0.1)), 5) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in (*calls, "run", "rtneural")}
    until = time.perf_counter() + seconds
    while len(times["step"]) < 9 or time.perf_counter() < until:
        for name, call in calls.items():
            times[name].append(time_of(call, counts[name]))
        size = min(len(samples), counts["step"])
        begin = time.perf_counter()
        block.run(samples[:size, None])
        times["run"].append((time.perf_counter() - begin) / size * 1e6)
        if peer is not None and len(times["rtneural"]) < 9:
            taken, y = rtneural(hidden, model, samples, peer, 5)
            assert abs(y - last) < 1e-4, f"RTNeural gives {y}, and we {last}"
            times["rtneural"].append(taken)
    return {name: statistics.median(t) for name, t in times.items() if t}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size")
    parser.add_argument("--rtneural", type=Path, help="a checkout of RTNeural")
    parser.add_argument("--programs", type=Path, help="where to keep its programs, compiled")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        programs = options.programs or Path(folder)
        programs.mkdir(exist_ok=True)
        peer = None if options.rtneural is None else Peer(options.rtneural, programs)
        print_table(options.sizes, options.seconds, peer)


def print_table(sizes: Sequence[int], seconds: float, peer: Peer | None) -> None:
    print(f"kernels: {_kernels.ISA}; one thread; microseconds a step, medians")
    heads = [
        "units",
        "step",
        "bfloat16",
        "int8",
        "ONNX Runtime",
        "ratio",
        "run",
        "RTNeural",
        "ratio",
    ]
    heads += ["real-time factor", "RTNeural's"]
    print("| " + " | ".join(heads) + " |\n|" + " ---: |" * len(heads))
    for hidden in sizes:
        row = measure(hidden, seconds, peer)
        cells = [
            f"{hidden}",
            *(f"{row[name]:.2f}" for name in ("step", "bfloat16", "int8", "onnx")),
        ]
        cells += [f"{row['onnx'] / row['step']:.1f}", f"{row['run']:.2f}"]
        there = "rtneural" in row
        cells.append(f"{row['rtneural']:.2f}" if there else "")
        cells.append(f"{row['rtneural'] / row['run']:.1f}" if there else "")
        cells.append(f"{1e6 / RATE / row['run']:.0f}")
        cells.append(f"{1e6 / RATE / row['rtneural']:.0f}" if there else "")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
