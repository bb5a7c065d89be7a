"""GRUs for torch: `GRU` and `GRUCell` in place of torch's, and `accelerate` for whole models."""

from tidegate.nn._gru import GRU as GRU
from tidegate.nn._result import Gates as Gates
from tidegate.nn._result import GRUResult as GRUResult
from tidegate.nn._result import GRUResultWithGates as GRUResultWithGates
