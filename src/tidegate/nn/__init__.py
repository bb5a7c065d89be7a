"""GRUs for torch: `GRU` and `GRUCell` in place of torch's, and `accelerate` for whole models."""

from tidegate.nn._accelerate import Acceleration as Acceleration
from tidegate.nn._accelerate import accelerate as accelerate
from tidegate.nn._cell import GRUCell as GRUCell
from tidegate.nn._gru import GRU as GRU
from tidegate.nn._min_gru import MinGRU as MinGRU
from tidegate.nn._result import Gates as Gates
from tidegate.nn._result import GRUResult as GRUResult
from tidegate.nn._result import GRUResultWithGates as GRUResultWithGates
from tidegate.nn._tbptt import TruncatedBPTT as TruncatedBPTT
