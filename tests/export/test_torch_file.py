"""What torch itself saved, read without it; and programs that no state_dict has, refused."""

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import InputError
from tidegate.export import read
from tidegate.export._torch_file import read_torch_file

MADE = Path(__file__).parents[1] / "data" / "formats"


def saved(value, **options) -> bytes:
    torch = pytest.importorskip("torch")
    held = io.BytesIO()
    torch.save(value, held, **options)
    return held.getvalue()


def archive(program: bytes, **files: bytes) -> bytes:
    """A file like torch's, of a program of our own."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as opened:
        opened.writestr("m/data.pkl", program)
        for name, data in files.items():
            opened.writestr(f"m/{name.replace('_', '/')}", data)
    return held.getvalue()


def test_tensors_of_every_kind_come_as_they_were():
    torch = pytest.importorskip("torch")
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "plain": whole,
        "turned": whole.permute(2, 0, 1),
        "part": whole[1, 1:, ::2],
        "again": whole[0],  # of the same storage
        "repeated": torch.tensor([1.5]).expand(3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "double": torch.linspace(0, 1, 5, dtype=torch.float64),
        "half": torch.linspace(-1, 1, 5, dtype=torch.float16),
        "bfloat16": torch.linspace(-1, 1, 5).to(torch.bfloat16),
        "count": torch.tensor([3, -4]),
        "small": torch.tensor([1, -2], dtype=torch.int8),
        "mask": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(whole[0, 0].clone()),
    }
    for data in (saved(state), saved(state, pickle_protocol=4)):
        found, others = read_torch_file(data, "m.pt")
        assert others == []
        assert list(found) == list(state)
        for name, tensor in state.items():
            wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
            np.testing.assert_array_equal(found[name], wide.detach().numpy(), strict=True)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_gives_its_state_dict(key):
    torch = pytest.importorskip("torch")
    gru = torch.nn.GRU(3, 4)
    adam = torch.optim.Adam(gru.parameters())
    gru(torch.zeros(2, 1, 3))[0].sum().backward()
    adam.step()
    rest = {
        "epoch": 3,
        "optimizer": adam.state_dict(),
        "loss": 0.5,
        "note": "as it was",
        "no": None,
    }
    found, others = read_torch_file(saved({**rest, key: gru.state_dict()}), "m.pt")
    assert list(found) == list(gru.state_dict())
    assert others == []
    _, others = read_torch_file(saved({**rest, "weight": torch.zeros(2)}), "m.pt")
    assert others == list(rest)


def test_what_is_not_a_state_dict_is_refused():
    torch = pytest.importorskip("torch")
    for value, sentence in (
        (torch.nn.GRU(2, 3), "names torch.nn.modules.rnn.GRU, and not only tensors"),
        ([torch.zeros(2)], "holds a list, not a state_dict"),
        (torch.zeros(2), "holds a tensor, not a state_dict"),
        ({}, "holds a dict, not a state_dict"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_torch_file(saved(value), "m.pt")
    old = saved({"a": torch.zeros(2)}, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"not in the format that torch has written since 1\.6"):
        read_torch_file(old, "m.pt")
    script = archive(b"\x80\x02}.", constants_pkl=b"").replace(b"constants/pkl", b"constants.pkl")
    with pytest.raises(InputError, match="not of a state_dict"):
        read_torch_file(script, "m.pt")


TENSOR = (
    b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
    b"FloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ%s%s%s\x89}tRs."
)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", r"names posix\.system"),
        (pickle.dumps(print, 4), r"names builtins\.print"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01\x85Rs.", "calls what is no tensor"),
        (b"\x80\x02]q\x00h\x00a0.", "has the instruction POP"),
        (b"\x80\x02}", "no end|cannot be read"),
        (b".", "cannot be read as a state_dict"),
        (b"\x80\x02u.", "cannot be read as a state_dict"),
        (b"X\xff\xff\xff\x7fa.", "cannot be read as a state_dict"),
        (b"\x80\x02" + b"\x85" * 9 + b".", "cannot be read|holds"),
        (TENSOR % (b"K\x00", b"K\x02\x85", b"K\x01\x85"), None),
        (TENSOR % (b"K\x00", b"K\x03\x85", b"K\x01\x85"), "ends at number 2 of 2"),
        (TENSOR % (b"K\x01", b"K\x02\x85", b"K\x01\x85"), "ends at number 2 of 2"),
        (TENSOR % (b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85"), "at -1"),
        (TENSOR % (b"K\x00", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"), r"strides \(-1,\)"),
        (TENSOR % (b"K\x00", b"K\x02\x85", b"K\x01K\x01\x86"), "strides"),
        (TENSOR % (b"K\x00", b"\x8a\x08" + b"\x00" * 7 + b"\x7f\x85", b"K\x00\x85"), "than it has"),
        (TENSOR % (b"K\x00", b"X\x01\x00\x00\x00a\x85", b"K\x01\x85"), "a tensor of shape"),
    ],
)
def test_a_program_is_followed_only_where_it_says_a_tensor(program, sentence):
    numbers = np.array([1.0, 2.0], np.float32)
    data = archive(program, data_0=numbers.tobytes())
    if sentence is None:
        found, _ = read_torch_file(data, "m.pt")
        np.testing.assert_array_equal(found["a"], numbers)
    else:
        with pytest.raises(InputError, match=sentence):
            read_torch_file(data, "m.pt")


def test_another_order_of_bytes_is_refused():
    data = archive(b"\x80\x02}.", byteorder=b"big")
    with pytest.raises(InputError, match="another order of bytes"):
        read_torch_file(data, "m.pt")


def test_torch_is_not_needed():
    path = MADE / "torch_state.pt"
    script = f"""
import sys
sys.path[:0] = {sys.path}
sys.modules["torch"] = None
from tidegate.export import read
print(*read({str(path)!r}, layers=["gru"]).stack.layers[0].directions[0].weight_ih.shape)
print("pickle" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    there = read(path, layers=["gru"]).stack.layers[0].directions[0].weight_ih.shape
    assert process.stdout.split("\n")[0] == " ".join(map(str, there)), process.stderr
