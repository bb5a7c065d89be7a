"""Whose kernels run where: the table of what was measured, and TIDEGATE_GPU."""

import json

import pytest
import torch

from tidegate.nn import GRU
from tidegate.nn.gpu import _choice, _table

DEVICE = "NVIDIA H100 80GB HBM3"
CALL = _table.call_kind("bfloat16", training=True, packed=False)
TABLE = {
    DEVICE: {CALL: [(64, 16, 0.8), (64, 64, 1.5), (128, 16, 3.0), (128, 64, 2.5), (256, 16, 4.0)]}
}


def test_the_shipped_table_is_whole():
    table = _table.shipped()
    assert _table.parse(_table.text_of(table)) == table


def test_a_table_survives_its_file(tmp_path):
    path = tmp_path / "table.json"
    assert _table.read(path) == {}
    path.write_text(_table.text_of(TABLE))
    assert _table.read(path) == TABLE
    path.write_text(json.dumps({"format": 2}))
    with pytest.raises(ValueError, match="a table of format 1 was expected"):
        _table.read(path)


@pytest.mark.parametrize(
    ("hidden", "batch", "ours"),
    [
        (128, 16, True),
        (128, 40, True),  # between two that are
        (64, 16, False),  # measured to be slower
        (100, 20, False),  # one of the four around it is slower
        (100, 64, True),
        (200, 16, True),
        (200, 20, False),  # 256 was not measured at 64 rows
        (32, 64, False),  # below all that was measured
        (300, 16, False),
        (128, 1, False),
    ],
)
def test_the_neighbours_of_a_size_must_agree(hidden, batch, ours):
    assert _table.is_faster(TABLE, DEVICE, CALL, hidden, batch) == ours


def test_what_was_not_measured_is_torchs():
    other = _table.call_kind("bfloat16", training=True, packed=True)
    assert not _table.is_faster(TABLE, DEVICE, other, 128, 16)
    assert not _table.is_faster(TABLE, "NVIDIA T4", CALL, 128, 16)
    assert not _table.is_faster({}, DEVICE, CALL, 128, 16)


def test_the_environment_decides_first(monkeypatch):
    size = (torch.device("cuda", 0), torch.bfloat16, 128, 16, True, False)
    monkeypatch.setattr(_table, "shipped", lambda: TABLE)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: DEVICE)
    monkeypatch.delenv("TIDEGATE_GPU", raising=False)
    assert _choice.is_preferred(*size)
    assert not _choice.is_preferred(*size[:2], 300, *size[3:])
    monkeypatch.setenv("TIDEGATE_GPU", "always")
    assert _choice.is_preferred(*size[:2], 300, *size[3:])
    monkeypatch.setenv("TIDEGATE_GPU", "never")
    assert not _choice.is_preferred(*size)
    monkeypatch.setenv("TIDEGATE_GPU", "perhaps")
    with pytest.raises(ValueError, match="TIDEGATE_GPU must be one of auto, always, never"):
        _choice.is_preferred(*size)


def test_float32_is_multiplied_as_torchs_flag_says(monkeypatch):
    with torch.backends.cudnn.flags(allow_tf32=True):
        assert _choice.kind_of(torch.float32) == "tf32"
    with torch.backends.cudnn.flags(allow_tf32=False):
        assert _choice.kind_of(torch.float32) == "float32"
        assert _choice.kind_of(torch.float16) == "float16"


@pytest.mark.parametrize(
    ("options", "may"),
    [
        ({}, True),
        ({"reset": "before", "learn_hx": True, "num_layers": 2}, True),
        ({"reset": "none"}, False),
        ({"layer_norm": True}, False),
        ({"zoneout": 0.1}, False),
        ({"recurrent_dropout": 0.1}, False),
        ({"hidden_size": [20, 257]}, False),
    ],
)
def test_options_that_the_kernels_lack_are_not_theirs(options, may):
    assert _choice._may_run(GRU(**{"input_size": 3, "hidden_size": 20, **options})) == may
