"""Run JSON that we wrote in RTNeural itself, and its own models here.

    python tests/conformance/rtneural.py FOLDER        # a checkout of RTNeural

Compiles a small program against it with g++ and its own STL backend, and compares.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tidegate.export import read, write
from tidegate.runtime import GRU, Activation, Linear, Model, Stack
from tidegate.weights import GRUWeights

MADE = Path(__file__).parents[1] / "data" / "formats"
PROGRAM = """
#include <RTNeural/RTNeural.h>
#include <fstream>
#include <iostream>
int main(int, char** argv) {
  std::ifstream json(argv[1]);
  auto model = RTNeural::json_parser::parseJson<float>(json);
  model->reset();
  std::vector<float> x(model->getInSize());
  std::cout.precision(9);
  while (true) {
    for (auto& value : x) if (!(std::cin >> value)) return 0;
    model->forward(x.data());
    for (int i = 0; i < model->getOutSize(); ++i) std::cout << model->getOutputs()[i] << ' ';
    std::cout << '\\n';
  }
}
"""


def build(checkout: Path, folder: Path) -> Path:
    (folder / "run.cpp").write_text(PROGRAM)
    flags = ["-std=c++17", "-O1", "-DRTNEURAL_USE_STL=1", "-DRTNEURAL_DEFAULT_ALIGNMENT=16"]
    sources = [folder / "run.cpp", checkout / "RTNeural" / "RTNeural.cpp"]
    where = [f"-I{checkout}", f"-I{checkout / 'modules'}"]
    subprocess.run(["g++", *flags, *where, *sources, "-o", folder / "run"], check=True)
    return folder / "run"


def models():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.uniform(-0.4, 0.4, shape).astype(np.float32)

    for name in ("rtneural.json", "guitarml_noskip.json", "keras_after.keras"):
        yield name, read(MADE / name)
    grus = [GRU((GRUWeights(draw(27, i), draw(27, 9), draw(27), draw(27)),)) for i in (2, 9)]
    head = [Linear(draw(4, 9), None), Activation("softmax"), Linear(draw(3, 4), draw(3))]
    yield "two layers", Model(Stack([*grus, *head, Activation("elu", 1.0)]))


# Models that RTNeural is tested with, and what their files do not say.
THEIRS = {"gru": {}, "gru_1d": {}, "gru_torch": {"layers": ["gru", "gru2", "dense"]}}


def check_theirs(checkout: Path) -> None:
    for name, options in THEIRS.items():
        model = read(checkout / "models" / f"{name}.json", **options)
        x, y = (
            np.loadtxt(checkout / "test_data" / f"{name}_{which}_python.csv", ndmin=1)
            for which in "xy"
        )
        apart = np.abs(model.stack(x.reshape(-1, 1, 1).astype(np.float32)).ravel() - y).max()
        print(f"{name}.json of RTNeural: at most {apart:.2g} apart")
        assert apart < 1e-6


if __name__ == "__main__":
    check_theirs(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(Path(sys.argv[1]), folder)
        for name, model in models():
            write(model, folder / "m.json", "rtneural")
            x = np.random.default_rng(1).standard_normal((50, model.stack.input_size))
            lines = "\n".join(" ".join(map(repr, row)) for row in x.astype(np.float32).tolist())
            ran = subprocess.run(
                [program, folder / "m.json"],
                input=lines,
                capture_output=True,
                text=True,
                check=True,
            )
            y = np.loadtxt(ran.stdout.splitlines(), ndmin=2)
            apart = np.abs(y - model.stack(x[:, None].astype(np.float32))[:, 0]).max()
            print(f"{name}: at most {apart:.2g} apart")
            assert apart < 1e-5
