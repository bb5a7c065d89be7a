"""Files that we wrote, run by the libraries that they are for.

    python tests/conformance/out_formats.py write FOLDER            # where tidegate is
    python tests/conformance/out_formats.py keras|jax|torch FOLDER  # where the library is

The first writes models beside an input and our answers; the second loads them and compares.
"""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

BATCH, TIME, FEATURES, HIDDEN = 3, 11, 5, 7


def draw(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.4, 0.4, shape).astype(np.float32)


def write(folder):
    from tidegate import export
    from tidegate.runtime import (
        GRU,
        Activation,
        AddInput,
        Embedding,
        LayerNorm,
        Linear,
        Model,
        Stack,
    )
    from tidegate.weights import GRUWeights

    def weights(features, hidden, reset="after", inner=True):
        shapes = ((3 * hidden, features), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,))
        arrays = [draw(i, *shape) for i, shape in enumerate(shapes)]
        if not inner:
            arrays[3][:] = 0
        return GRUWeights(*arrays, reset=reset)

    def head(width):
        return [Linear(draw(5, 2, width), draw(6, 2)), Activation("tanh")]

    both = (weights(HIDDEN, 4), weights(HIDDEN, 4))
    gru, other = GRU((weights(FEATURES, HIDDEN),)), GRU((weights(FEATURES, HIDDEN, "before"),))
    stacks = {
        "after": [gru, GRU(both), LayerNorm(8, draw(7, 8), draw(8, 8)), *head(8)],
        "before": [other, *head(HIDDEN), Activation("elu", 0.5)],
        "final": [gru, GRU(both, final=True), *head(8), Activation("log_softmax")],
        "backwards": [GRU((weights(FEATURES, HIDDEN),), reverse=True, final=True)],
        "words": [Embedding(draw(9, 13, FEATURES)), gru, Linear(draw(5, 2, HIDDEN))],
    }
    x = draw(10, BATCH, TIME, FEATURES)
    ids = np.random.default_rng(11).integers(0, 13, (BATCH, TIME))
    for name, layers in stacks.items():
        model = Model(Stack(layers), batch_first=True)
        export.write(model, folder / f"{name}.keras")
        export.write(model, folder / f"{name}.weights.h5")
        given = ids if name == "words" else x
        np.savez(folder / f"{name}.npz", x=given, y=model(given))
    cells = {"flax": (gru, "npz"), "equinox": (gru, "eqx")}
    cells["nnx"] = (GRU((weights(FEATURES, HIDDEN, inner=False),)), "npz")
    for layout, (layer, ending) in cells.items():
        model = Model(Stack([layer]), batch_first=True)
        export.write(model, folder / f"{layout}.cell.{ending}", layout)
        np.savez(folder / f"{layout}.npz", x=x, y=model(x))
    two = [gru, GRU((weights(HIDDEN, HIDDEN),)), Linear(draw(5, 1, HIDDEN), draw(6, 1))]
    audio = [GRU((weights(1, HIDDEN),)), Linear(draw(5, 1, HIDDEN), draw(6, 1)), AddInput(1)]
    model = Model(Stack(two), batch_first=True)
    export.write(model, folder / "state.safetensors", "torch")
    np.savez(folder / "state.npz", x=x, y=model(x))
    model = Model(Stack(audio))
    export.write(model, folder / "amp.json", "guitarml")
    np.savez(folder / "amp.npz", x=x[..., :1], y=model(x[..., :1]))


def compare(folder, name, run):
    held = np.load(folder / f"{name}.npz")
    apart = float(np.abs(np.asarray(run(held["x"])) - held["y"]).max())
    print(f"{name}: at most {apart:.2g} apart")
    assert apart < 1e-6


def check_keras(folder):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    for file in sorted(folder.glob("*.keras")):
        model = keras.models.load_model(file)
        compare(folder, file.stem, partial(model.predict, verbose=0))
        for weight in model.weights:
            weight.assign(weight * 0)
        model.load_weights(folder / f"{file.stem}.weights.h5")
        compare(folder, file.stem, partial(model.predict, verbose=0))


def check_jax(folder):
    import equinox as eqx
    import flax.linen as linen
    import jax
    from flax import nnx

    flat = np.load(folder / "flax.cell.npz")
    params: dict = {}
    for name in flat:
        gate, kind = name.split("/")
        params.setdefault(gate, {})[kind] = flat[name]
    layer = linen.RNN(linen.GRUCell(HIDDEN))
    compare(folder, "flax", lambda x: layer.apply({"params": {"cell": params}}, x))

    flat = np.load(folder / "nnx.cell.npz")
    cell = nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = flat["dense_i/kernel"]
    cell.dense_i.bias[...] = flat["dense_i/bias"]
    cell.dense_h.kernel[...] = flat["dense_h/kernel"]
    compare(folder, "nnx", nnx.RNN(cell))

    like = eqx.nn.GRUCell(FEATURES, HIDDEN, key=jax.random.key(0))
    loaded = eqx.tree_deserialise_leaves(folder / "equinox.cell.eqx", like)

    def run(row):
        def step(h, x_t):
            h = loaded(x_t, h)
            return h, h

        return jax.lax.scan(step, np.zeros(HIDDEN, np.float32), row)[1]

    compare(folder, "equinox", jax.vmap(run))


def check_torch(folder):
    import json

    import torch
    from safetensors.torch import load_file
    from torch import nn

    torch.set_grad_enabled(False)
    state = load_file(folder / "state.safetensors")
    net = nn.ModuleDict({"gru": nn.GRU(FEATURES, HIDDEN, 2, batch_first=True)})
    net["linear"] = nn.Linear(HIDDEN, 1)
    net.load_state_dict(state)
    compare(folder, "state", lambda x: net["linear"](net["gru"](torch.from_numpy(x))[0]))

    # As CoreAudioML's SimpleRNN: a GRU, a linear layer, and the first `skip` inputs added.
    content = json.loads((folder / "amp.json").read_text())
    facts = content["model_data"]
    modules = {"rec": nn.GRU(facts["input_size"], facts["hidden_size"], facts["num_layers"])}
    modules["lin"] = nn.Linear(facts["hidden_size"], facts["output_size"], facts["bias_fl"])
    net = nn.ModuleDict(modules)
    net.load_state_dict({key: torch.tensor(value) for key, value in content["state_dict"].items()})

    def amp(x):
        x = torch.from_numpy(x)
        return net["lin"](net["rec"](x)[0]) + x[..., : facts["skip"]]

    compare(folder, "amp", amp)


if __name__ == "__main__":
    _, what, name = sys.argv
    where = Path(name)
    where.mkdir(parents=True, exist_ok=True)
    {"write": write, "keras": check_keras, "jax": check_jax, "torch": check_torch}[what](where)
