"""Models of other libraries, in and out."""

from typing import TYPE_CHECKING, Any

from ._cells import LAYOUTS as LAYOUTS
from ._cells import read_cells as read_cells
from ._cells import write_cells as write_cells
from ._check import convert as convert
from ._check import describe as describe
from ._formats import FORMATS as FORMATS
from ._formats import read as read
from ._formats import write as write
from ._json import read_json as read_json
from ._json import write_guitarml as write_guitarml
from ._json import write_rtneural as write_rtneural
from ._keras import read_keras as read_keras
from ._keras import write_keras as write_keras
from ._onnx_read import OnnxModel as OnnxModel
from ._onnx_read import from_onnx_model as from_onnx_model
from ._onnx_read import read_onnx as read_onnx
from ._onnx_write import to_onnx_model as to_onnx_model
from ._onnx_write import write_onnx as write_onnx
from ._torch import from_state as from_state
from ._torch import read_torch as read_torch
from ._torch import to_state as to_state
from ._torch import write_torch as write_torch

if TYPE_CHECKING:
    from ._module import save_model as save_model


def __getattr__(name: str) -> Any:
    """Only what takes torch modules needs torch: it is imported when asked for."""
    if name == "save_model":
        from ._module import save_model

        return save_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
