"""What we write as HDF5 libhdf5 reads, and we read what it writes."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import InputError
from tidegate.export._hdf5 import HDF5File, write_hdf5

h5py = pytest.importorskip("h5py")

shape = st.lists(st.integers(1, 5), max_size=3)
leaf = st.tuples(shape, st.sampled_from([np.float32, np.float64]), st.integers(0, 2**20)).map(
    lambda given: np.random.default_rng(given[2]).standard_normal(given[0]).astype(given[1])
)
name = st.text("abcdefgh_0123456789", min_size=1, max_size=20)
tree = st.recursive(leaf, lambda inner: st.dictionaries(name, inner, max_size=12), max_leaves=20)


def flat(node, path=""):
    if isinstance(node, np.ndarray):
        return {path: node}
    parts = [flat(inner, f"{path}/{key}" if path else key) for key, inner in node.items()]
    return {key: array for part in parts for key, array in part.items()}


@settings(max_examples=20)
@given(st.dictionaries(name, tree, max_size=6))
def test_libhdf5_reads_what_we_write(groups):
    data = write_hdf5({"root": groups})
    with h5py.File(io.BytesIO(data)) as file:
        for path, array in flat(groups).items():
            found = file[f"root/{path}"]
            assert found.dtype == array.dtype
            assert np.array_equal(found[()], array)
    ours = HDF5File(data, "m.h5").arrays("root")
    assert {path: array.tolist() for path, array in ours.items()} == {
        path: array.tolist() for path, array in flat(groups).items()
    }


@settings(max_examples=20)
@given(st.dictionaries(name, tree, max_size=40), st.text(max_size=100))
def test_we_read_what_libhdf5_writes(groups, text):
    text = text.replace("\0", "")
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_group("root")
        for path, array in flat(groups).items():
            file[f"root/{path}"] = array
        file.attrs["model_config"] = text
    read = HDF5File(held.getvalue(), "m.h5")
    assert read.text("model_config") == text
    ours = read.arrays("root")
    assert set(ours) == set(flat(groups))
    for path, array in flat(groups).items():
        assert np.array_equal(ours[path], array)


def test_compressed_arrays_and_newer_files_are_refused():
    for options, inside in (({}, {"compression": "gzip"}), ({"libver": "latest"}, {})):
        held = io.BytesIO()
        with h5py.File(held, "w", **options) as file:
            file.create_group("root").create_dataset("a", data=np.ones((50, 50)), **inside)
        with pytest.raises(InputError, match=r"compressed|newer form"):
            HDF5File(held.getvalue(), "m.h5").arrays("root")
