"""What the base install weighs, NumPy aside: the package, its kernels and safetensors."""

from pathlib import Path

import safetensors

import tidegate
from tidegate import _kernels

BESIDE = 420_000  # libgomp, which our wheels bring, and what pip keeps about both packages


def size(folder: Path) -> int:
    """Bytes of the files that a wheel puts there; what Python compiles of them is not counted."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")


def test_the_base_install_is_at_most_five_megabytes():
    package = size(Path(tidegate.__file__).parent)
    kernels = Path(_kernels.__file__)
    if Path(tidegate.__file__).parent not in kernels.parents:
        package += kernels.stat().st_size
    assert package + size(Path(safetensors.__file__).parent) + BESIDE <= 5e6
