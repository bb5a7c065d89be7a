"""Cells as named arrays, in .npz, .safetensors or .eqx: Flax, Equinox, haste, Ng and others."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from .. import weights as tw
from .._files import replacing
from ..errors import InputError
from ..runtime import GRU, Model, Stack
from ..weights import GRUWeights, NgGRU
from ._bounded import as_real, read_bytes, read_npy, read_zip

Array = np.ndarray
Arrays = Mapping[str, Array]


class Layout(NamedTuple):
    """The arrays of one cell, and how they are read and written."""

    names: tuple[str, ...]
    read: Callable[[Arrays, str | None], GRUWeights]
    write: Callable[[GRUWeights], Mapping[str, Array | None]]
    optional: tuple[str, ...] = ()


def _read_linen(arrays: Arrays, reset: str | None) -> GRUWeights:
    params: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        gate, _, kind = name.partition("/")
        params.setdefault(gate, {})[kind] = array
    return tw.from_linen(params)


def _write_linen(weights: GRUWeights) -> dict[str, Array]:
    params = tw.to_linen(weights)
    return {
        f"{gate}/{kind}": array for gate, kinds in params.items() for kind, array in kinds.items()
    }


_LINEN = tuple(f"{layer}/kernel" for layer in ("ir", "iz", "in", "hr", "hz", "hn"))
_LINEN += tuple(f"{layer}/bias" for layer in ("ir", "iz", "in", "hn"))
_NNX = ("dense_i/kernel", "dense_i/bias", "dense_h/kernel")
_EQUINOX = ("weight_ih", "weight_hh", "bias", "bias_n")
_KERAS = ("kernel", "recurrent_kernel", "bias")
_HASTE = (*_KERAS, "recurrent_bias")
_TF1 = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")


def _in_order(names: Sequence[str], read: Callable[..., GRUWeights]) -> Callable[..., GRUWeights]:
    return lambda arrays, reset: read(*(arrays.get(name) for name in names))


def _named(names: Sequence[str], write: Callable[..., Sequence[Array]]) -> Callable[..., Any]:
    return lambda weights: dict(zip(names, write(weights), strict=True))


def _read_keras(arrays: Arrays, reset: str | None) -> GRUWeights:
    bias = arrays.get("bias")
    if bias is None and reset is None:
        raise InputError(
            "kernels without a bias do not show whether the reset gate acts before or "
            "after the product: give reset"
        )
    after = reset == "after" if bias is None else bias.ndim == 2
    shown = "after" if after else "before"
    if reset not in (None, shown):
        raise InputError(f"reset is {reset!r}, and the bias is of {shown!r}")
    return tw.from_keras(arrays["kernel"], arrays["recurrent_kernel"], bias, reset_after=after)


def _read_stacked(arrays: Arrays, reset: str | None) -> GRUWeights:
    if reset is None:
        raise InputError("stacked matrices do not show where the reset gate acts: give reset")
    return tw.from_stacked(arrays["weight"], arrays["bias"], reset=reset)


LAYOUTS: dict[str, Layout] = {
    "flax": Layout(_LINEN, _read_linen, _write_linen),
    "nnx": Layout(_NNX, _in_order(_NNX, tw.from_nnx), _named(_NNX, tw.to_nnx)),
    "equinox": Layout(
        _EQUINOX,
        _in_order(_EQUINOX, tw.from_equinox),
        _named(_EQUINOX, tw.to_equinox),
        optional=("bias", "bias_n"),
    ),
    "haste": Layout(_HASTE, _in_order(_HASTE, tw.from_haste), _named(_HASTE, tw.to_haste)),
    "keras-arrays": Layout(_KERAS, _read_keras, _named(_KERAS, tw.to_keras), optional=("bias",)),
    "tf1": Layout(_TF1, _in_order(_TF1, tw.from_tf1), _named(_TF1, tw.to_tf1)),
    "ng": Layout(
        NgGRU._fields,
        _in_order(NgGRU._fields, tw.from_ng),
        lambda weights: tw.to_ng(weights)._asdict(),
        optional=("w_r", "b_r"),
    ),
    "stacked": Layout(("weight", "bias"), _read_stacked, _named(("weight", "bias"), tw.to_stacked)),
}


def read_cells(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    reset: str | None = None,
    batch_first: bool | None = None,
) -> Model:
    """Read the arrays of one cell, or of several that are numbered, into a stack of GRU layers.

    Args:
        path: `.npz` or `.safetensors`, with a library's names, of which the last parts count; or
            `.eqx`, what `equinox.tree_serialise_leaves` wrote of a cell or a list of them.
        layout: whose names they are: one of `LAYOUTS`; found from the names if None.
        reset: where the reset gate acts, which "stacked" and "keras-arrays" without a bias do not
            show.
        batch_first: whether rows come before steps; False if None.

    Raises:
        InputError: the file is damaged, or its arrays are of no known layout.
    """
    path = Path(path)
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    if path.suffix == ".eqx":
        cells = _equinox_cells(io.BytesIO(read_bytes(path)), path)
        layout = "equinox"
    else:
        cells = _cells(_arrays(path), path, layout)
    layers = []
    for arrays in cells:
        name = layout or _layout_of(set(arrays), path)
        _check_names(set(arrays), name, path)
        try:
            layers.append(GRU((LAYOUTS[name].read(arrays, reset),)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    try:
        return Model(Stack(layers), bool(batch_first))
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None


def write_cells(model: Model, path: str | os.PathLike[str], *, layout: str) -> None:
    """Write the arrays of GRU layers under a library's names; several layers are numbered.

    Raises:
        InputError: the file cannot be written, a layer is no cell, or the library lacks its form.
    """
    cells = []
    for layer in model.stack.layers:
        if not isinstance(layer, GRU) or len(layer.directions) != 1 or layer.reverse or layer.final:
            raise InputError(f"{layout} has cells alone, and the model more than plain GRU layers")
        arrays = LAYOUTS[layout].write(layer.directions[0])
        cells.append({name: a for name, a in arrays.items() if a is not None})
    path = Path(path)
    if path.suffix == ".eqx":
        _write_eqx(path, cells)
        return
    flat = {
        f"{number}/{name}" if len(cells) > 1 else name: np.ascontiguousarray(array)
        for number, arrays in enumerate(cells)
        for name, array in arrays.items()
    }
    with replacing(path) as file:
        if path.suffix == ".safetensors":
            safetensors.numpy.save_file(flat, file)
        else:
            with file.open("wb") as opened:
                np.savez(opened, **flat)  # type: ignore[arg-type]


def _write_eqx(path: Path, cells: Sequence[Arrays]) -> None:
    held = io.BytesIO()  # NumPy does not say why it could not write to a file
    for arrays in cells:
        for name in _EQUINOX:
            np.save(held, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    with replacing(path) as file:
        file.write_bytes(held.getvalue())


def _arrays(path: Path) -> dict[str, Array]:
    data = read_bytes(path)
    if path.suffix == ".safetensors":
        try:
            arrays = safetensors.numpy.load(data)
        except Exception as error:  # whatever a stranger's bytes make it say
            raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    else:
        files = read_zip(data, path)
        arrays = {
            name.removesuffix(".npy"): read_npy(io.BytesIO(held), f"{path}: {name}")
            for name, held in files.items()
        }
    return {name.replace(".", "/"): as_real(array) for name, array in arrays.items()}


def _cells(arrays: Arrays, path: Path, layout: str | None) -> Sequence[Arrays]:
    """Arrays of each cell under their last names, cells in the order of their numbers."""
    known = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
    endings = sorted({name for each in known.values() for name in each.names}, key=len)[::-1]
    cells: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        ending = next((e for e in endings if name == e or name.endswith("/" + e)), None)
        if ending is None:
            raise InputError(_unknown(path, [name]))
        cells.setdefault(name.removesuffix(ending), {})[ending] = array
    numbers = [re.findall(r"\d+", prefix) for prefix in cells]
    if len(cells) != 1 and any(len(found) != 1 for found in numbers):
        raise InputError(
            f"{path} has several cells ({', '.join(cells) or 'none'}) that are not numbered: "
            "their order is not known"
        )
    order = dict(zip(cells, numbers, strict=True)) if len(cells) > 1 else {}
    return [cells[prefix] for prefix in sorted(cells, key=lambda prefix: _number(order, prefix))]


def _number(order: Mapping[str, list[str]], prefix: str) -> int:
    return int(order[prefix][0]) if order else 0


def _layout_of(names: set[str], path: Path) -> str:
    for layout, each in LAYOUTS.items():
        if set(each.names) - set(each.optional) <= names <= set(each.names):
            return layout
    raise InputError(_unknown(path, sorted(names)))


def _check_names(names: set[str], layout: str, path: Path) -> None:
    each = LAYOUTS[layout]
    missing = set(each.names) - set(each.optional) - names
    if missing or names - set(each.names):
        raise InputError(
            f"{path} has {', '.join(sorted(names))}, and {layout} has {', '.join(each.names)}"
        )


def _unknown(path: Path, names: Sequence[str]) -> str:
    known = "; ".join(f"{layout}: {', '.join(each.names)}" for layout, each in LAYOUTS.items())
    found = ", ".join(list(names)[:8])
    return f"{path} has {found}, which is no layout that is known ({known})"


def _equinox_cells(data: io.BytesIO, path: Path) -> Sequence[Arrays]:
    """Leaves in the order of the fields: two matrices, and two biases if there are any."""
    leaves: list[Array] = []
    while data.tell() < len(data.getbuffer()):
        leaves.append(as_real(read_npy(data, path)))
    cells: list[dict[str, Array]] = []
    for leaf in leaves:
        if leaf.ndim == 2 and (not cells or len(cells[-1]) != 1):
            cells.append({"weight_ih": leaf})
        elif cells and len(cells[-1]) < len(_EQUINOX):
            cells[-1][_EQUINOX[len(cells[-1])]] = leaf
        else:
            shapes = ", ".join(str(array.shape) for array in leaves[:8])
            raise InputError(f"{path} has arrays of shapes {shapes}, which are no cells of Equinox")
    return cells
