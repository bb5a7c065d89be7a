"""The arguments of the kernels, field by field as in `gru.cu`; every field has eight bytes."""

from __future__ import annotations

import ctypes

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_KEEP = [("keep", _POINTER), *((f"keep_{axis}", _NUMBER) for axis in ("time", "batch", "unit"))]
_RAGGED = [("lengths", _POINTER), ("offsets", _POINTER)]
_SIZE = [("time", _NUMBER), ("batch", _NUMBER)]
_ROWS = [("rows", _NUMBER), ("row_step", _NUMBER)]


def _strided(name: str, *axes: str) -> list[tuple[str, type]]:
    return [(name, _POINTER), *((f"{name}_{axis}", _NUMBER) for axis in axes)]


class Forward(ctypes.Structure):
    """Of `gru_forward`."""

    _fields_ = [
        *_strided("x_gates", "time", "batch"),
        ("weight_hh", _POINTER * 2),
        ("bias_hh", _POINTER * 2),
        ("h_0", _POINTER),
        *_KEEP,
        *_RAGGED,
        *_strided("output", "time", "batch"),
        ("h_n", _POINTER),
        *_strided("gates", "gate", "time", "batch"),
        *_SIZE,
    ]


class Backward(ctypes.Structure):
    """Of `gru_backward`."""

    _fields_ = [
        ("coefficients", _POINTER),
        ("weight_hh", _POINTER * 2),
        *_strided("d_output", "time", "batch"),
        ("d_h_n", _POINTER),
        *_KEEP,
        *_RAGGED,
        ("d_state", _POINTER),
        ("d_reset", _POINTER),
        ("d_kept", _POINTER),
        ("d_h_0", _POINTER),
        *_SIZE,
        *_ROWS,
    ]


class Previous(ctypes.Structure):
    """Of `gru_previous`."""

    _fields_ = [
        *_strided("output", "time", "batch"),
        ("h_0", _POINTER),
        *_KEEP,
        *_RAGGED,
        ("previous", _POINTER),
        ("kept", _POINTER),
        *_SIZE,
        *_ROWS,
    ]


class Coefficients(ctypes.Structure):
    """Of `gru_coefficients` and `gru_reset`."""

    _fields_ = [
        *_strided("x_gates", "time", "batch"),
        ("h_gates", _POINTER),
        ("h_candidate", _POINTER),
        ("bias_hh", _POINTER * 2),
        ("previous", _POINTER),
        *_RAGGED,
        ("product", _POINTER),
        ("coefficients", _POINTER),
        *_SIZE,
        *_ROWS,
    ]
