"""Models of other libraries, in and out."""

from typing import TYPE_CHECKING, Any

from ._formats import read as read
from ._formats import write as write

if TYPE_CHECKING:
    from ._module import save_model as save_model


def __getattr__(name: str) -> Any:
    """Only what takes torch modules needs torch: it is imported when asked for."""
    if name == "save_model":
        from ._module import save_model

        return save_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
