"""Files that other libraries made, each beside an input and what the library answered to it."""

from pathlib import Path

import numpy as np

from tidegate.export import read

MADE = Path(__file__).parent / "data" / "formats"

# File, and what its format does not say.
HEAD = {"layers": ["gru", "head", "relu"], "batch_first": True}
FILES = {
    **{
        f"torch_{exporter}_{take}.onnx": {}
        for exporter in ("dynamo", "legacy")
        for take in ("every", "step", "state", "states", "timefirst")
    },
    **{f"tf2onnx_{name}.onnx": {} for name in ("after", "both", "final")},
    **{
        f"keras_{name}.keras": {}
        for name in ("after", "before", "stack", "final", "backwards", "words", "functional")
    },
    "keras_legacy.h5": {},
    **{f"keras2_{name}": {} for name in ("both.h5", "both.keras", "loop.h5", "loop.keras")},
    "keras_weights.weights.h5": {"config": MADE / "keras_weights.json"},
    "torch_state.safetensors": HEAD,
    "torch_state.pt": HEAD,
    "torch_numbers.json": HEAD,
    "torch_cell.safetensors": {"batch_first": True},
    "rtneural.json": {},
    "guitarml.json": {},
    "guitarml_noskip.json": {},
    "guitarml_recnet.json": {},
    "flax_linen.weights.npz": {"batch_first": True},
    "flax_nnx.weights.npz": {"batch_first": True},
    "equinox.eqx": {"batch_first": True},
}


def answer(name: str):
    """The input that the library was given, and its output."""
    held = np.load(MADE / f"{name.partition('.')[0]}.npz")
    return held["x"], held["y"]


def model(name: str):
    return read(MADE / name, **FILES[name])
