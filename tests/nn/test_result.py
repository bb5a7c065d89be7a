"""Results are tuples to all code that takes tuples."""

import copy
import pickle

import pytest
import torch
from torch.utils import _pytree

from tidegate.nn import GRU, GRUResult, GRUResultWithGates


@pytest.mark.parametrize("gates", [False, True])
def test_results_are_rebuilt_by_whoever_maps_over_them(gates):
    result = GRU(3, 5)(torch.randn(4, 2, 3), return_gates=gates)
    kind = GRUResultWithGates if gates else GRUResult
    for other in (
        kind(*result),
        kind(part for part in result),  # as a plain tuple is made
        kind(**result._asdict()),
        result._replace(output=result.output),
        kind._make(result),
        _pytree.tree_map(lambda leaf: leaf, result),
        copy.copy(result),
        pickle.loads(pickle.dumps(_pytree.tree_map(torch.detach, result))),
    ):
        assert type(other) is kind
        assert isinstance(other, tuple)
        assert torch.equal(other.last(), result.last())


def test_arithmetic_libraries_see_two_values():
    output, h_n = GRU(3, 5)(torch.randn(4, 2, 3))
    assert (output[-1] == h_n[0]).all()
    assert len(GRU(3, 5)(torch.randn(4, 2, 3))) == 2
