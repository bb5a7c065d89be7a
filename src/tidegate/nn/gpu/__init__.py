"""The GRU's kernels for a GPU: CUDA C++ compiled when it is first used."""

from tidegate.nn.gpu._choice import build_of as build_of
from tidegate.nn.gpu._choice import call_dtype as call_dtype
from tidegate.nn.gpu._choice import give_up as give_up
from tidegate.nn.gpu._choice import runs as runs
from tidegate.nn.gpu._choice import takes as takes
from tidegate.nn.gpu._kernel import backward as backward
from tidegate.nn.gpu._kernel import forward as forward
from tidegate.nn.gpu._nvrtc import Unusable as Unusable
