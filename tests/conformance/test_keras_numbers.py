"""The outputs that Keras' own tests publish, from a GRU of ours with the same weights.

The layers there have constant weights: input 0.01, recurrent 0.02, biases 0.03; `reset_after=False`
has one bias. The inputs count upwards from zero.
"""

import numpy as np
import pytest
import torch

from tidegate.nn import GRU, TruncatedBPTT

MASK = torch.tensor([[True, True, False, True], [True, False, False, True]])


def keras_gru(features: int, units: int, *, reset_after: bool = True, use_bias: bool = True) -> GRU:
    reset = "after" if reset_after else "before"
    gru = GRU(features, units, bias=use_bias, batch_first=True, reset=reset)
    constants = {"weight_ih": 0.01, "weight_hh": 0.02, "bias_ih": 0.03, "bias_hh": 0.03}
    constants["bias_hh"] *= reset_after
    with torch.no_grad():
        for name, parameter in gru.named_parameters():
            parameter.fill_(constants[name[:-3]])
    return gru


def counting(*shape: int) -> torch.Tensor:
    return torch.arange(np.prod(shape), dtype=torch.float32).reshape(shape)


def assert_rows(states: torch.Tensor, rows: list) -> None:
    """Keras compares with 1e-6 of its own; the numbers have seven digits."""
    expected = np.array(rows, np.float32)
    if expected.ndim < states.dim():  # every unit is alike: one number stands for all
        expected = np.repeat(expected[..., None], states.size(-1), -1)
    np.testing.assert_allclose(states.detach().numpy(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "backwards", "rows"),
    [
        ({}, False, [0.5217289, 0.6371659, 0.39384964]),
        ({}, True, [0.24406259, 0.611516, 0.3928808]),
        ({"reset_after": False}, False, [0.51447755, 0.6426879, 0.40208298]),
        ({"use_bias": False}, False, [0.49988455, 0.64701194, 0.4103359]),
    ],
)
def test_correctness(options, backwards, rows):
    x = counting(3, 6, 4)
    x = x.flip(1) if backwards else x
    assert_rows(keras_gru(4, 3, **options)(x).last(), rows)


def test_statefulness():
    reader, x = TruncatedBPTT(keras_gru(4, 4)), counting(2, 3, 4)
    for _ in range(2):
        reader(x)
        assert_rows(reader(x).last(), [0.29542392, 0.5885018])
        reader.forget()


@pytest.mark.parametrize(
    ("backwards", "rows"),
    [
        (False, [[0.23774096, 0.33508456], [0.83659905, 1.0227708]]),
        (True, [[0.13486053, 0.23261218], [0.78257304, 0.9691353]]),
    ],
)
def test_initial_state(backwards, rows):
    x = counting(2, 4, 3)
    result = keras_gru(3, 2)(x.flip(1) if backwards else x, counting(1, 2, 2))
    assert_rows(result.last(), rows)


def masked(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows without their masked steps, which a state passes unchanged; and their lengths."""
    order = torch.argsort(~mask, dim=1, stable=True)
    return x.gather(1, order[..., None].expand_as(x)), mask.sum(1)


def test_masking():
    x, lengths = masked(counting(2, 4, 3), MASK)
    result = keras_gru(3, 2)(x, lengths=lengths)
    assert_rows(result.last(), [0.19393763, 0.30818558])
    shown = torch.stack([result.output[row, MASK[row].cumsum(0) - 1] for row in range(2)])
    carried = [
        [0.03606692, 0.09497581, 0.09497581, 0.19393763],
        [0.16051409, 0.16051409, 0.16051409, 0.30818558],
    ]
    assert_rows(shown, carried)


def test_masking_backwards():
    x, lengths = masked(counting(2, 4, 3).flip(1), MASK.flip(1))
    assert_rows(keras_gru(3, 2)(x, lengths=lengths).last(), [0.11669192, 0.28380975])
