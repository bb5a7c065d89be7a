"""The state is carried from chunk to chunk, and its history is not."""

import pytest
import torch

from tidegate.nn import GRU, TruncatedBPTT


@pytest.mark.parametrize("options", [{}, {"proj_size": 2}, {"learn_hx": True, "batch_first": True}])
def test_chunks_are_the_whole(options):
    torch.manual_seed(0)
    gru = GRU(3, 5, 2, **options)
    x = torch.randn(12, 4, 3)
    axis = int(gru.batch_first)
    whole = gru(x.transpose(0, axis))
    reader = TruncatedBPTT(gru)
    chunks = [reader(chunk.transpose(0, axis)).output for chunk in x.split([5, 1, 6])]
    assert torch.equal(torch.cat(chunks, axis), whole.output)
    reader.forget()
    assert torch.equal(reader(x.transpose(0, axis)).output, whole.output)


def test_gradients_end_at_the_beginning_of_a_chunk():
    reader, first = TruncatedBPTT(GRU(3, 5)), torch.randn(4, 2, 3, requires_grad=True)
    reader(first)
    second = torch.randn(4, 2, 3, requires_grad=True)
    reader(second).output.sum().backward()
    assert first.grad is None
    assert second.grad.any()


@pytest.mark.parametrize("options", [{}, {"proj_size": 2}, {"learn_hx": True}])
def test_rows_restart_alone(options):
    torch.manual_seed(0)
    gru = GRU(3, 5, 2, bidirectional=True, **options)
    for name, parameter in gru.named_parameters():
        if name.startswith("hx_"):
            torch.nn.init.normal_(parameter)
    reader, x, y = TruncatedBPTT(gru), torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    carried = gru(y, gru(x).h_n).output
    reader(x)
    output = reader(y, restart=torch.tensor([True, False])).output
    assert torch.equal(output[:, 0], gru(y).output[:, 0])
    assert torch.equal(output[:, 1], carried[:, 1])
    if gru.learn_hx:
        output[:, 0].sum().backward()
        assert gru.hx_l0.grad.any()


def test_the_options_of_a_call_pass_through():
    reader = TruncatedBPTT(GRU(3, 5))
    result = reader(torch.randn(4, 2, 3), lengths=[2, 4], return_gates=True)
    assert torch.equal(reader.state, result.h_n)
    assert result.gates.update[0].shape == (4, 2, 5)


def test_the_state_is_not_saved():
    reader = TruncatedBPTT(GRU(3, 5))
    reader(torch.randn(4, 2, 3))
    assert list(reader.state_dict()) == [f"gru.{name}" for name in reader.gru.state_dict()]


def test_a_wrong_restart_is_named():
    reader = TruncatedBPTT(GRU(3, 5))
    reader(torch.randn(4, 2, 3))
    with pytest.raises(ValueError, match=r"bool of \(2,\), but it is torch.float32 of \(3,\)"):
        reader(torch.randn(4, 2, 3), restart=torch.ones(3))
    with pytest.raises(TypeError, match="restart must be a tensor, but it is a list"):
        reader(torch.randn(4, 2, 3), restart=[True, False])


def test_a_chunk_that_is_no_tensor_is_named():
    reader = TruncatedBPTT(GRU(3, 5))
    reader(torch.randn(4, 2, 3))
    with pytest.raises(TypeError, match="input must be a tensor or packed, but it is a ndarray"):
        reader(torch.randn(4, 2, 3).numpy())


@pytest.mark.parametrize("batch_first", [False, True])
def test_other_rows_than_those_carried_are_refused(batch_first):
    reader = TruncatedBPTT(GRU(3, 5, batch_first=batch_first))
    reader(torch.randn(2, 2, 3))
    for chunk in (torch.randn(*((4, 2) if batch_first else (2, 4)), 3), torch.randn(2, 3)):
        with pytest.raises(ValueError, match=r"carried \[2\]: call forget\(\) before other rows"):
            reader(chunk)
    reader.forget()
    reader(chunk)


def test_a_gru_of_torchs_is_refused():
    with pytest.raises(TypeError, match=r"a tidegate.nn.GRU, but it is a torch.nn.modules.rnn.GRU"):
        TruncatedBPTT(torch.nn.GRU(3, 5))
