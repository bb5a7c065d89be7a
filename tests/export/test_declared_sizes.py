"""Files that declare terabytes, or go in circles, are refused before memory is taken."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

MADE = Path(__file__).parents[1] / "data" / "formats"
KINDS = Path(__file__).parents[1] / "data" / "models"
TERABYTES = 2**42


def safetensors(metadata) -> bytes:
    """A header that says of 64 bytes that they are terabytes."""
    tensor = {"dtype": "F32", "shape": [TERABYTES // 4], "data_offsets": [0, TERABYTES]}
    header = json.dumps({"__metadata__": metadata, "weight_ih_l0": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(64)


def npy() -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        held, {"descr": "<f4", "fortran_order": False, "shape": (TERABYTES // 4,)}
    )
    return held.getvalue() + bytes(64)


def zipped(**files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return held.getvalue()


def onnx_file() -> bytes:
    model = onnx.load(MADE / "torch_legacy_every.onnx")
    model.graph.initializer[0].dims[:] = [TERABYTES // 4]
    return model.SerializeToString()


def onnx_expanded() -> bytes:
    """Constants that a graph would blow up."""
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [1], [TERABYTES])
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["y"])]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [], [y], [shape])).SerializeToString()


def forecaster_facts() -> bytes:
    """A forecaster that says it looks at terabytes of history."""
    data = (KINDS / "forecaster.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["model"])
    facts["model"]["scaling"]["context"] = TERABYTES
    header["__metadata__"]["model"] = json.dumps(facts)
    changed = json.dumps(header).encode()
    changed += b" " * (-len(changed) % 8)
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


FILES = {
    "own.safetensors": lambda: safetensors({"format": "tidegate.model/1", "kind": "stack"}),
    "state.safetensors": lambda: safetensors({"format": "pt"}),
    "longest.safetensors": lambda: TERABYTES.to_bytes(8, "little") + bytes(64),
    "cells.npz": lambda: zipped(weight__npy=npy()),
    "module.eqx": npy,
    "bomb.npz": lambda: zipped(weight__npy=bytes(2**28)),
    "bomb.pt": lambda: zipped(data__pkl=bytes(2**28)),
    "graph.onnx": onnx_file,
    "expanded.onnx": onnx_expanded,
    "model.keras": lambda: zipped(config__json=b"{}", model__weights__h5=bytes(2**28)),
    "facts.safetensors": forecaster_facts,
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_refused_in_little_memory(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    script = f"""
import resource, sys
sys.path[:0] = {sys.path}
from tidegate.errors import InputError
from tidegate.export import _cells, _keras, _onnx_read, _torch, read
from tidegate.runtime import _forecaster, load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    (load if {name!r} == "facts.safetensors" else read)({str(path)!r})
except InputError as error:
    print("refused:", str(error)[:300])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    *said, grown = process.stdout.splitlines()
    assert process.returncode == 0, process.stderr
    assert len(said) == 1, process.stdout
    assert said[0].startswith("refused:")
    assert int(grown) < 20_000  # KB; the largest file has 300
