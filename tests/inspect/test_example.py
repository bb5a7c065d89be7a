"""The script in `examples` that looks inside a GRU runs as it stands."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "inspect_gru.py"


def test_a_bit_is_kept_where_the_gradient_arrives(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = runpy.run_path(str(EXAMPLE))
    flow, cells = made["flow"], made["cells"]
    assert cells["GRU, chrono"].score > 0.95
    assert cells["plain RNN"].score < 0.7
    assert flow["GRU, chrono, before"].norm[29] > 0.1 > flow["plain RNN, before"].norm[29]
    assert "The label can be read from the last state" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
