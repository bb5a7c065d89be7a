"""The GRU's kernels for a GPU: CUDA C++ compiled when it is first used."""

from tidegate.nn.gpu._choice import compute_dtype as compute_dtype
from tidegate.nn.gpu._choice import runs as runs
from tidegate.nn.gpu._kernel import backward as backward
from tidegate.nn.gpu._kernel import forward as forward
