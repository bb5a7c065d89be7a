"""Make the files of tests/data/formats: models written by other libraries, with what they answer.

    python tests/conformance/make_formats.py torch | keras | jax | tf2onnx | guitarml FOLDER

Each library needs an environment of its own: torch and onnxscript; keras on JAX; flax, equinox and
jax; tensorflow-cpu, tf_keras and tf2onnx; torch and a checkout of CoreAudioML in FOLDER. Beside a
model NAME.SUFFIX stands NAME.npz with an input `x` and the output `y`, rows first unless it says
otherwise. Tests read these files, so that they need none of the libraries.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "data" / "formats"
BATCH, TIME, FEATURES, HIDDEN = 2, 6, 3, 4


def example(*shape):
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def keep(name, x, y, **more):
    np.savez(OUT / f"{name}.npz", x=x, y=np.asarray(y), **more)


def strip(path):
    """Take out where in whose files each node was made."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("value_info")
    onnx.save(model, path)


def make_torch():
    import torch
    from torch import nn
    from torch.export import Dim

    class Net(nn.Module):
        """Two layers and a head, with the state taken in the ways that people do."""

        def __init__(self, take, both=False, first=True):
            super().__init__()
            self.gru = nn.GRU(FEATURES, HIDDEN, 2, batch_first=first, bidirectional=both)
            self.head = nn.Linear(HIDDEN * (1 + both), 2)
            self.take = take

        def forward(self, x):
            output, h_n = self.gru(x)
            return torch.relu(self.head(self.take(output, h_n)))

    class Carrying(nn.Module):
        """A state in and a state out, time first."""

        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(FEATURES, HIDDEN, 2, bidirectional=True)

        def forward(self, x, h):
            return self.gru(x, h)

    nets = {
        "every": Net(lambda output, h_n: output),
        "step": Net(lambda output, h_n: output[:, -1], both=True),
        "state": Net(lambda output, h_n: h_n[-1]),
        "states": Net(lambda output, h_n: torch.cat((h_n[-2], h_n[-1]), 1), both=True),
        "timefirst": Net(lambda output, h_n: output[-1], first=False),
    }
    torch.manual_seed(0)
    for name, net in nets.items():
        net.eval()
        x = torch.from_numpy(example(BATCH, TIME, FEATURES))
        free = {"x": {0: Dim("a"), 1: Dim("b")}}
        for exporter in ("dynamo", "legacy"):
            file = f"torch_{exporter}_{name}"
            if exporter == "dynamo":
                options = {"dynamo": True, "dynamic_shapes": free, "external_data": False}
            else:
                axes = {"x": {0: "a", 1: "b"}}
                options = {"dynamo": False, "input_names": ["x"], "dynamic_axes": axes}
            torch.onnx.export(net, (x,), OUT / f"{file}.onnx", verbose=False, **options)
            strip(OUT / f"{file}.onnx")
            keep(file, x, net(x).detach())
    net, h = Carrying().eval(), torch.from_numpy(example(4, BATCH, HIDDEN))
    x = torch.from_numpy(example(TIME, BATCH, FEATURES))
    for exporter in ("dynamo", "legacy"):
        file, names = f"torch_{exporter}_carrying", ["x", "h"]
        options = {"dynamo": exporter == "dynamo", "input_names": names, "verbose": False}
        torch.onnx.export(net, (x, h), OUT / f"{file}.onnx", **options)
        strip(OUT / f"{file}.onnx")
        output, h_n = net(x, h)
        keep(file, x, output.detach(), h=h, h_n=h_n.detach())
    torch_weights(nets)


def torch_weights(nets):
    import torch
    from safetensors.torch import save_file
    from torch import nn

    x = torch.from_numpy(example(BATCH, TIME, FEATURES))
    net = nets["every"]
    torch.save(net.state_dict(), OUT / "torch_state.pt")
    save_file(net.state_dict(), OUT / "torch_state.safetensors")
    keep("torch_state", x, net(x).detach())
    cell = nn.GRUCell(FEATURES, HIDDEN)
    save_file(cell.state_dict(), OUT / "torch_cell.safetensors")
    h, outputs = torch.zeros(BATCH, HIDDEN), []
    for step in x.unbind(1):
        h = cell(step, h)
        outputs.append(h)
    keep("torch_cell", x, torch.stack(outputs, 1).detach())
    numbers = {name: tensor.tolist() for name, tensor in net.state_dict().items()}
    (OUT / "torch_numbers.json").write_text(json.dumps(numbers))
    keep("torch_numbers", x, net(x).detach())


def make_keras():
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    x = example(BATCH, TIME, FEATURES)

    def save(name, parts, whole=True):
        inputs = keras.Input((None, FEATURES))
        model = keras.Sequential([inputs, *parts])
        for weight in model.weights:  # biases too: Keras' own are zero
            weight.assign(keras.random.uniform(weight.shape, -0.5, 0.5))
        y = model.predict(x, verbose=0)
        if whole:
            model.save(OUT / f"{name}.keras")
        else:
            model.save_weights(OUT / f"{name}.weights.h5")
            (OUT / f"{name}.json").write_text(model.to_json())
        keep(name, x, y)
        return model

    every = {"return_sequences": True}
    save("keras_after", [layers.GRU(HIDDEN, **every), layers.Dense(2, activation="tanh")])
    save("keras_before", [layers.GRU(HIDDEN, reset_after=False)])
    both = layers.Bidirectional(layers.GRU(HIDDEN, **every))
    stack = [both, layers.Dropout(0.5), layers.GRU(3), layers.Dense(2), layers.Softmax()]
    save("keras_stack", stack)
    save("keras_final", [layers.Bidirectional(layers.GRU(HIDDEN, reset_after=False))])
    nobias = layers.GRU(HIDDEN, use_bias=False, go_backwards=True)
    save("keras_backwards", [nobias, layers.Activation("elu")])
    model = save(
        "keras_weights",
        [layers.GRU(HIDDEN, **every), layers.TimeDistributed(layers.Dense(2, activation="relu"))],
        whole=False,
    )
    model.save(OUT / "keras_legacy.h5")
    keep("keras_legacy", x, model.predict(x, verbose=0))
    save("keras_hard", [layers.GRU(HIDDEN, recurrent_activation="hard_sigmoid")])
    save("keras_mask", [layers.Masking(), layers.GRU(HIDDEN)])
    ids = np.array([[3, 1, 4, 1, 5, 0], [2, 6, 5, 3, 5, 6]])
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(7, 3), layers.GRU(HIDDEN)]
    )
    model.save(OUT / "keras_words.keras")
    keep("keras_words", ids, model.predict(ids, verbose=0))
    start = keras.Input((None, FEATURES), name="readings")
    middle = layers.GRU(HIDDEN, name="memory", **every)(start)
    end = layers.Dense(1, activation="sigmoid")(layers.LayerNormalization()(middle))
    model = keras.Model(start, end)
    for weight in model.weights:
        weight.assign(keras.random.uniform(weight.shape, -0.5, 0.5))
    model.save(OUT / "keras_functional.keras")
    keep("keras_functional", x, model.predict(x, verbose=0))
    rtneural(x)


def rtneural(x):
    """The JSON that RTNeural's Python script writes of a Keras model, and Keras' answers."""
    import keras
    from keras import layers

    parts = [
        layers.TimeDistributed(layers.Dense(8, activation="tanh")),
        layers.GRU(HIDDEN, return_sequences=True),
        layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((None, FEATURES)), *parts])
    for weight in model.weights:
        weight.assign(keras.random.uniform(weight.shape, -0.5, 0.5))
    kinds = ["time-distributed-dense", "gru", "dense"]
    dicts = [
        {
            "type": kind,
            "activation": {"dense": ""}.get(kind, "tanh"),
            "shape": list(layer.output.shape),
            "weights": [weight.tolist() for weight in layer.get_weights()],
        }
        for kind, layer in zip(kinds, model.layers, strict=True)
    ]
    whole = {"in_shape": [None, None, FEATURES], "layers": dicts}
    (OUT / "rtneural.json").write_text(json.dumps(whole))
    keep("rtneural", x, model.predict(x, verbose=0))


def make_jax():
    import equinox as eqx
    import flax.linen as linen
    import jax
    from flax import nnx

    x = example(BATCH, TIME, FEATURES)
    key = jax.random.key(3)

    def noisy(tree):
        leaves, shape = jax.tree.flatten(tree)
        keys = jax.random.split(key, len(leaves))
        made = [
            jax.random.uniform(k, leaf.shape, leaf.dtype, -0.5, 0.5)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(shape, made)

    layer = linen.RNN(linen.GRUCell(HIDDEN))
    params = noisy(layer.init(key, x))
    flat = {
        f"{gate}/{name}": np.asarray(array)
        for gate, arrays in params["params"]["cell"].items()
        for name, array in arrays.items()
    }
    np.savez(OUT / "flax_linen.weights.npz", **flat)
    keep("flax_linen", x, layer.apply(params, x))

    cell = nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    graph, _ = nnx.split(cell)
    rng = nnx.state(cell, nnx.RngState)
    weights = noisy(nnx.state(cell, nnx.Param))
    cell = nnx.merge(graph, nnx.merge_state(rng, weights))
    dense = {"dense_i": cell.dense_i, "dense_h": cell.dense_h}
    flat = {f"{name}/kernel": np.asarray(d.kernel[...]) for name, d in dense.items()}
    flat["dense_i/bias"] = np.asarray(cell.dense_i.bias[...])
    np.savez(OUT / "flax_nnx.weights.npz", **flat)
    keep("flax_nnx", x, nnx.RNN(cell)(x))

    cell = eqx.nn.GRUCell(FEATURES, HIDDEN, key=key)
    cell = eqx.combine(noisy(eqx.filter(cell, eqx.is_array)), cell)
    eqx.tree_serialise_leaves(OUT / "equinox.eqx", cell)

    def run(row):
        def step(h, x_t):
            h = cell(x_t, h)
            return h, h

        return jax.lax.scan(step, np.zeros(HIDDEN, np.float32), row)[1]

    keep("equinox", x, jax.vmap(run)(x))


def make_tf2onnx():
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tf2onnx
    import tf_keras as keras

    tf.random.set_seed(0)
    x = example(BATCH, TIME, FEATURES)
    for name in ("after", "both", "final", "loop"):
        final, before = name == "final", name == "loop"
        gru = keras.layers.GRU(HIDDEN, return_sequences=not final, reset_after=not before)
        gru = keras.layers.Bidirectional(gru) if name in ("both", "final") else gru
        parts = [keras.layers.Input((None, FEATURES)), gru, keras.layers.Dense(2, "tanh")]
        model = keras.Sequential(parts)
        for weight in model.weights:
            weight.assign(tf.random.uniform(weight.shape, -0.5, 0.5))
        tf2onnx.convert.from_keras(model, opset=17, output_path=OUT / f"tf2onnx_{name}.onnx")
        keep(f"tf2onnx_{name}", x, model(x))
        if name in ("both", "loop"):  # Keras 2 itself
            model.save(OUT / f"keras2_{name}.h5")
            model.save(OUT / f"keras2_{name}.keras")
            keep(f"keras2_{name}", x, model(x))


def make_guitarml(folder):
    import torch

    sys.path.insert(0, str(Path(folder).parent))
    networks = __import__(f"{Path(folder).name}.networks", fromlist=["networks"])
    torch.manual_seed(0)
    for name, skip in (("guitarml", 1), ("guitarml_noskip", 0)):
        net = networks.SimpleRNN(unit_type="GRU", hidden_size=8, skip=skip)
        net.save_model(f"{name}.json", str(OUT))
        x = torch.from_numpy(example(20, BATCH, 1))  # time first, as audio is there
        keep(name, x, net(x).detach())
    block = {"block_type": "GRU", "input_size": 1, "output_size": 1, "hidden_size": 8}
    net = networks.RecNet(blocks={**block, "lin_bias": True})
    net.save_state = True
    net.save_model("guitarml_recnet.json", str(OUT))
    keep("guitarml_recnet", x, net(x).detach())


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    _, library, *rest = sys.argv
    globals()[f"make_{library}"](*rest)
