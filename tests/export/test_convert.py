"""`tidegate convert` between formats, as its users see it."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from format_cases import MADE, model
from runtime_cases import linear
from tidegate.cli import main
from tidegate.export import read, write
from tidegate.runtime import Model, Stack


def run(*tokens):
    """The exit code; arguments that are wrong end the process."""
    try:
        return main([str(token) for token in tokens])
    except SystemExit as ended:
        return ended.code


ROUND = [
    ("torch_dynamo_every.onnx", "m.keras", [], "as Keras; read back, it answers random input with"),
    ("keras_after.keras", "m.onnx", ["--states", "--lengths"], "ONNX Runtime with"),
    ("keras_stack.keras", "m.weights.h5", [], "as Keras"),
    ("torch_state.pt", "m.onnx", ["--layers", "gru,head,relu", "--batch-first"], "a state_dict"),
    ("equinox.eqx", "m.npz", ["--to", "ng"], None),
    ("equinox.eqx", "m.npz", ["--to", "flax"], "(Equinox)"),
    ("equinox.eqx", "m.npz", ["--to", "nnx"], None),
    ("flax_nnx.weights.npz", "m.npz", ["--to", "nnx"], "as Flax NNX"),
    ("guitarml.json", "m.safetensors", [], "plus input 1"),
    ("guitarml_noskip.json", "m.json", ["--to", "rtneural"], "(JSON)"),
    ("keras_before.keras", "m.safetensors", ["--to", "torch"], None),
    ("torch_cell.safetensors", "m.eqx", [], "as Equinox"),
]


@pytest.mark.parametrize(("source", "target", "options", "said"), ROUND)
def test_one_sentence_or_a_refusal_that_writes_nothing(
    source, target, options, said, tmp_path, capfd
):
    code = run("convert", MADE / source, tmp_path / target, *options)
    out, err = capfd.readouterr()
    if said is None:
        assert code == 2
        assert err.startswith("tidegate: ")
        assert err.count("\n") == 1
        assert not list(tmp_path.iterdir())
    else:
        assert code == 0, err
        assert said in " ".join(out.split())
        assert [path.name for path in tmp_path.iterdir()] == [target]


WRONG = [
    (["nothing.onnx", "m.keras"], "nothing.onnx: there is no such file"),
    (["model.onnx", "m.tflite"], "files that end in"),
    (["model.tflite", "m.onnx"], "files that end in"),
    (["model.onnx", "m.json"], "may be rtneural or guitarml: say which with --to"),
    (["model.onnx", "m.onnx", "--to", "tflite"], "format must be one of tidegate, onnx"),
    (["model.onnx", "m.onnx", "--to", "keras"], "keras is written to files that end in .keras"),
    (["model.onnx", "m.keras", "--layers", "gru"], "layers is no option with which ONNX is read"),
    (["model.onnx", "m.keras", "--states"], "states is no option with which Keras is written"),
    (["model.onnx", "m.keras", "--dtype", "int8"], "--dtype is for a .safetensors file"),
    (["broken.keras", "m.onnx"], "broken.keras cannot be read as an archive"),
    (["broken.onnx", "m.keras"], "broken.onnx cannot be read as ONNX"),
    (["broken.json", "m.onnx"], "broken.json is not JSON"),
    (["broken.npz", "m.onnx"], "broken.npz cannot be read as an archive"),
    (["broken.eqx", "m.onnx"], "broken.eqx cannot be read as NumPy's array"),
    (["broken.safetensors", "m.onnx"], "broken.safetensors cannot be read as a model"),
    (["broken.pt", "m.onnx"], "broken.pt cannot be read as an archive"),
]


@pytest.mark.parametrize(("tokens", "message"), WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(
    tokens, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes((MADE / "torch_legacy_every.onnx").read_bytes())
    for ending in ("keras", "onnx", "json", "npz", "eqx", "safetensors", "pt"):
        (tmp_path / f"broken.{ending}").write_bytes(b"PK\x03\x04 not a model")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run("convert", *tokens) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert said.startswith("tidegate: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["m.onnx", "m.keras"])
def test_a_model_without_a_gru_is_refused(target, tmp_path, capsys):
    Model(Stack([linear(0, 3, 2)])).save(tmp_path / "linear.safetensors")
    assert run("convert", tmp_path / "linear.safetensors", tmp_path / target) == 2
    assert "has no GRU" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["linear.safetensors"]


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * 2**27)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match="would unpack to more than 20 times its size"):
        read(tmp_path / "m.keras")


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_carried_out(tmp_path):
    import torch

    torch.save({"gru.weight_ih_l0": Trap(tmp_path / "sprung")}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=r"names _?io\.open, and not only tensors: nothing is executed"
    ):
        read(tmp_path / "m.pt")
    np.savez(tmp_path / "m.npz", weight=np.array([Trap(tmp_path / "sprung")], object))
    with pytest.raises(ValueError, match="holds object, not numbers"):
        read(tmp_path / "m.npz", "stacked", reset="after")
    assert not (tmp_path / "sprung").exists()


def test_a_function_of_somebodys_own_in_a_keras_file_is_refused(tmp_path):
    with zipfile.ZipFile(MADE / "keras_after.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    (dense,) = (x for x in config["config"]["layers"] if x["class_name"] == "Dense")
    dense["config"]["activation"] = {"class_name": "__lambda__", "config": "4wEAAA=="}
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match="has the function of somebody's own; known are linear"):
        read(tmp_path / "m.keras")


def test_stacked_matrices_need_their_reset(tmp_path):
    cell = Model(model("equinox.eqx").stack)
    write(cell, tmp_path / "m.npz", "stacked")
    with pytest.raises(ValueError, match="stacked matrices do not show where the reset gate acts"):
        read(tmp_path / "m.npz")
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    assert np.array_equal(read(tmp_path / "m.npz", reset="after")(x), cell(x))


def test_names_of_no_layout_are_refused_with_what_is_known(tmp_path):
    np.savez(tmp_path / "m.npz", w=np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"has w, which is no layout that is known \(flax: ir/ker"):
        read(tmp_path / "m.npz")


def test_a_layer_of_no_units_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", weight_ih=np.ones((0, 3)), weight_hh=np.ones((0, 0)))
    with pytest.raises(ValueError, match=r"has shape \(0, 3\), and no numbers"):
        read(tmp_path / "m.npz", "equinox")


def test_very_many_nodes_are_not_unpacked(tmp_path):
    # Field 7 of a model is its graph, and field 1 of that a node, here an empty one.
    nodes = b"\x0a\x00" * 200_000
    size = bytes([len(nodes) & 0x7F | 0x80, len(nodes) >> 7 & 0x7F | 0x80, len(nodes) >> 14])
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + size + nodes)
    with pytest.raises(ValueError, match="has more than 100,000 nodes or tensors"):
        read(tmp_path / "m.onnx")


def test_all_but_onnx_and_pt_is_read_with_numpy_alone():
    script = f"""
import sys
from tidegate.export import read, write
for name in ("keras_stack.keras", "keras_legacy.h5", "rtneural.json", "equinox.eqx"):
    read({str(MADE)!r} + "/" + name)
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(*loaded & {{"torch", "onnx", "h5py", "keras", "jax", "pandas", "onnxruntime"}})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_missing_package_is_named_with_what_brings_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run("convert", MADE / "torch_legacy_every.onnx", tmp_path / "m.keras") == 2
    assert "needs the package onnx: pip install 'tidegate[onnx]'" in capsys.readouterr().err
