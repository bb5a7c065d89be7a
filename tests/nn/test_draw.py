"""Random choices from a seed: the same everywhere, and as likely as was asked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate import _kernels
from tidegate.nn._draw import PARTS, draw, draw_in_torch


def drawn_by_the_kernel(seed: int, size: int, parts: int, dtype: torch.dtype) -> torch.Tensor:
    numbers = torch.full((size,), torch.nan, dtype=dtype)
    args = seed % 2**64, size, parts, numbers.data_ptr()
    _kernels.draw(dtype == torch.float64, *args)
    return numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=st.integers(-(2**63), 2**63 - 1), size=st.integers(0, 70), parts=st.integers(0, PARTS))
def test_kernels_and_torch_draw_the_same(dtype, seed, size, parts):
    found = drawn_by_the_kernel(seed, size, parts, dtype)
    assert torch.equal(found, draw_in_torch((size,), parts, torch.tensor([seed])).to(dtype))


def test_words_are_splitmix64s():
    # The first outputs of SplitMix64 from the seed 1234567, as its authors' program prints them.
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    for quarter in range(4):
        for k, word in enumerate(words):
            part = word >> (16 * quarter) & (PARTS - 1)
            for parts in (part, part + 1):
                found = drawn_by_the_kernel(1234567, 12, parts, torch.float32)
                assert found[3 * quarter + k] == (part < parts)


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.1, 0.5, 0.97])
def test_ones_are_as_many_as_was_asked_and_know_nothing_of_each_other(chance):
    torch.manual_seed(0)
    size, like = 400_000, torch.empty(0)
    one, other = draw((size,), chance, like), draw((size,), chance, like)
    spread = (chance * (1 - chance) / size) ** 0.5
    for numbers in (one, *one.chunk(4)):
        assert abs(numbers.mean() - chance) <= 5 * 2 * spread + 1e-9
    if 0 < chance < 1:
        for shift in (1, 2, size // 4, size // 2):
            assert abs(torch.corrcoef(torch.stack((one[shift:], one[:-shift])))[0, 1]) < 0.01
        assert abs(torch.corrcoef(torch.stack((one, other)))[0, 1]) < 0.01


def test_the_seed_is_torchs():
    like = torch.empty(0, dtype=torch.float64)
    torch.manual_seed(3)
    one, other = draw((7, 3), 0.5, like), draw((7, 3), 0.5, like)
    torch.manual_seed(3)
    assert torch.equal(draw((7, 3), 0.5, like), one)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float64
