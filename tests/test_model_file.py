"""The model file: what is written is read, and what a stranger wrote is refused in one sentence."""

import json
import os
import resource

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tidegate._model_file import FORMAT, read_model, to_bfloat16, write_model
from tidegate.errors import InputError

TENSORS = {
    "weight": np.array([[1.5, -2.0], [0.25, 3.0]], np.float32),
    "bias": np.array([0.5, 1.0]),
    "steps": np.array([], np.int64),
}
FACTS = {"sizes": [1, 2], "name": "Gezeitentor", "none": None}


@pytest.fixture
def path(tmp_path):
    write_model(tmp_path / "m.safetensors", "stack", TENSORS, FACTS)
    return tmp_path / "m.safetensors"


def header_and_rest(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: dict | bytes, rest: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def test_what_is_written_is_read(path):
    file = read_model(path, "stack")
    assert (file.kind, file.facts, file.narrow) == ("stack", FACTS, {})
    assert file.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(file.tensors[name], tensor, strict=True)


def test_an_array_that_is_a_view_is_written_as_it_looks(tmp_path):
    view = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    write_model(tmp_path / "m", "stack", {"view": view}, {})
    np.testing.assert_array_equal(read_model(tmp_path / "m").tensors["view"], view)


def test_another_kind_is_refused(path):
    with pytest.raises(InputError, match=r"is not a forecaster but a stack$"):
        read_model(path, "forecaster")


def test_another_format_is_refused_and_named(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / "m", {"format": "pt"})
    with pytest.raises(InputError, match=rf"is not a language model \({FORMAT}\) but pt$"):
        read_model(tmp_path / "m", "language model")


@pytest.mark.parametrize("keep", [0, 7, 8, 20])
def test_a_file_that_was_cut_in_its_header_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"it has {keep} bytes, and does not begin with a header"):
        read_model(path)


def test_a_file_that_was_cut_in_its_numbers_is_refused(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"m\.safetensors cannot be read as a model"):
        read_model(path)


def refusal(path) -> str | None:
    """What is said to a file, or None where it is read."""
    try:
        read_model(path)
    except InputError as error:
        return str(error)
    return None


def test_every_damaged_byte_is_read_or_refused(path):
    """Whatever one byte of a file becomes: a model, or a sentence that names the file."""
    whole, said = path.read_bytes(), []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        said.append(refusal(path))
    refused = [sentence for sentence in said if sentence is not None]
    assert all(str(path) in sentence for sentence in refused)
    assert 50 < len(refused) < len(said)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40, 2**40]},
        {"shape": [-2, -2]},
        {"shape": [2, 3]},
        {"shape": [1] * 100},
        {"data_offsets": [0, 2**62]},
        {"data_offsets": [8, 24]},
        {"dtype": "F65"},
        {"dtype": "BF16"},
    ],
)
def test_a_header_that_lies_is_refused(path, change):
    header, rest = header_and_rest(path.read_bytes())
    header["weight"] |= change
    path.write_bytes(with_header(header, rest))
    with pytest.raises(InputError, match="cannot be read as a model"):
        read_model(path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[]", b'{"__metadata__": 3}', b"\xff\xfe{}"])
def test_a_header_that_is_no_header_is_refused(tmp_path, text):
    (tmp_path / "m").write_bytes(with_header(text, b""))
    with pytest.raises(InputError, match="its header is not JSON"):
        read_model(tmp_path / "m")


@pytest.mark.parametrize("facts", ["{", "[]", '"x"', "NaN"])
def test_facts_that_are_no_facts_are_refused(path, facts):
    header, rest = header_and_rest(path.read_bytes())
    header["__metadata__"]["model"] = facts
    path.write_bytes(with_header(header, rest))
    with pytest.raises(InputError, match="cannot be read as a model"):
        read_model(path)


@pytest.mark.parametrize("length", [2**33, 2**30])
def test_a_huge_header_takes_no_memory(tmp_path, length):
    """The file has gigabytes of holes, and the header claims more than it has, or most of it."""
    with (tmp_path / "m").open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(2**32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="header"):
        read_model(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB: 64 MiB


def test_of_a_foreign_file_only_the_header_is_read(tmp_path):
    with (tmp_path / "m").open("wb") as file:
        file.write(with_header({"__metadata__": {"format": "pt"}}, b""))
        file.truncate(2**34)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="but pt"):
        read_model(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_model(tmp_path / "m")
    with pytest.raises(InputError, match="is not a file"):
        read_model(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="is not a file that holds a stack"):
            read_model(path, "stack")


def test_an_old_file_stays_when_the_new_one_cannot_be_written(path):
    whole = path.read_bytes()
    with pytest.raises(InputError, match="must be a matrix of float32"):
        write_model(path, "stack", TENSORS, FACTS, narrow={"bias": "int8"})
    with pytest.raises(TypeError):
        write_model(path, "stack", TENSORS, {"set": {1}})
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == [path.name]


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 9), columns=st.integers(0, 9))
@pytest.mark.parametrize(("storage", "steps"), [("bfloat16", 2**8), ("int8", 254)])
def test_narrow_matrices_are_rounded_to_their_nearest(
    tmp_path_factory, storage, steps, seed, rows, columns
):
    path = tmp_path_factory.mktemp("narrow") / "m"
    weight = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    write_model(path, "stack", {"w": weight, "b": weight[0:0]}, {}, narrow={"w": storage})
    file = read_model(path)
    assert file.narrow == {"w": storage}
    assert file.tensors["w"].dtype == np.float32
    assert file.tensors.keys() == {"w", "b"}
    size = np.abs(weight) if storage == "bfloat16" else np.abs(weight).max(1, initial=0)[:, None]
    assert (np.abs(file.tensors["w"] - weight) <= size / steps * (1 + 1e-5)).all()


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_narrowing_twice_changes_nothing(tmp_path, storage):
    rng = np.random.default_rng(0)
    weight = np.vstack([np.zeros(5), rng.standard_normal((40, 5))]).astype(np.float32)
    for name in ("once", "twice"):
        write_model(tmp_path / name, "stack", {"w": weight}, {}, narrow={"w": storage})
        weight = read_model(tmp_path / name).tensors["w"]
    once = read_model(tmp_path / "once").tensors["w"]
    np.testing.assert_allclose(weight, once, rtol=3e-7)


def test_bfloat16_ties_go_to_even_and_nan_stays():
    numbers = np.array([1 + 2**-8, 1 + 3 * 2**-8, -0.0, np.inf, np.nan], np.float32)
    widened = (to_bfloat16(numbers).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, np.array([1, 1 + 2**-6, -0.0, np.inf, np.nan]))


def test_what_is_not_finite_is_not_narrowed(tmp_path):
    weight = np.array([[np.nan, 1]], np.float32)
    with pytest.raises(InputError, match="not finite"):
        write_model(tmp_path / "m", "stack", {"w": weight}, {}, narrow={"w": "int8"})


def test_a_narrow_matrix_without_its_scale_is_refused(tmp_path):
    weight = np.ones((2, 2), np.float32)
    write_model(tmp_path / "m", "stack", {"w": weight}, {}, narrow={"w": "int8"})
    tensors = safetensors.numpy.load_file(tmp_path / "m")
    header, _ = header_and_rest((tmp_path / "m").read_bytes())
    del tensors["w.scale"]
    safetensors.numpy.save_file(tensors, tmp_path / "m", header["__metadata__"])
    with pytest.raises(InputError, match="cannot be read as a model"):
        read_model(tmp_path / "m")
