"""What reads a saved model's numbers needs NumPy only."""

import subprocess
import sys

CODE = f"""
import sys
sys.path[:0] = {sys.path}
import tidegate.forecast
from tidegate._series import model
from tidegate.forecast import baselines, metrics
sys.exit(" ".join({{"torch", "pandas", "narwhals"}} & set(sys.modules)))
"""


def test_all_but_the_forecaster_works_without_torch():
    process = subprocess.run(
        [sys.executable, "-c", CODE], check=False, capture_output=True, text=True
    )
    assert process.stderr.strip() == ""
