"""Many random choices from one seed, which torch's generator gives.

torch's generators take longer over a number than the kernels over the whole step of a small layer's
unit. Here a number of 64 bits is SplitMix64's of the seed and its place, and decides four choices:
the same ones on every machine and device, in the kernels and in torch operations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tidegate import _kernels

PARTS = 2**16


def draw(shape: tuple[int, ...], chance: float, like: Tensor) -> Tensor:
    """One with `chance`, to the nearest of 65,536 parts, else zero; device and dtype of `like`."""
    seed = torch.randint(-(2**63), 2**63 - 1, (1,), device=like.device)
    parts = round(chance * PARTS)
    if not _in_plain_sight(seed, like):
        return draw_in_torch(shape, parts, seed).to(like.dtype)
    numbers = torch.empty(shape, dtype=like.dtype)
    double = like.dtype == torch.float64
    _kernels.draw(double, int(seed) % 2**64, numbers.numel(), parts, numbers.data_ptr())
    return numbers


def _in_plain_sight(seed: Tensor, like: Tensor) -> bool:
    """Whether the kernels can draw: float32 or float64 on the CPU, and nobody looks on."""
    return (
        like.device.type == "cpu"
        and like.dtype in (torch.float32, torch.float64)
        and type(seed) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
    )


def draw_in_torch(shape: tuple[int, ...], parts: int, seed: Tensor) -> Tensor:
    """The same choices, as bool, in torch operations."""
    size = math.prod(shape)
    place = torch.arange(1, (size + 3) // 4 + 1, device=seed.device)
    words = _mixed(seed + place * _signed(0x9E3779B97F4A7C15))
    quarters = torch.stack([words >> shift & (PARTS - 1) for shift in (0, 16, 32, 48)])
    return (quarters < parts).flatten()[:size].view(shape)


def _mixed(word: Tensor) -> Tensor:
    """SplitMix64's finish, in the two's complement of int64."""
    word = (word ^ _shifted(word, 30)) * _signed(0xBF58476D1CE4E5B9)
    word = (word ^ _shifted(word, 27)) * _signed(0x94D049BB133111EB)
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in at the left."""
    return word >> bits & (2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
