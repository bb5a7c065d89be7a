"""Errors of a command become one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from ..errors import InputError

# Which extra brings a package, where that is not the largest of them.
_EXTRAS = {"torch": "torch", "onnx": "onnx", "tokenizers": "language", "ray": "ray"}

FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def guarded(run: Callable[..., object], tokens: Sequence[str]) -> int:
    """Run a command; with `--debug` among the tokens, an error shows its traceback too.

    Returns:
        The exit code: 0, 1 if the training failed, 2 for bad input, 130 after Ctrl-C.
    """
    try:
        run(tokens, result_action="return_value")
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _say("stopped", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except (
        InputError,
        FloatingPointError,
        ModuleNotFoundError,
        OSError,
        MemoryError,
    ) as error:
        if "--debug" in tokens:
            traceback.print_exc()
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return _say(
            _sentence(error), FAILED if isinstance(error, FloatingPointError) else BAD_INPUT
        )
    return 0


def _sentence(error: Exception) -> str:
    match error:
        case ModuleNotFoundError():
            package = (error.name or str(error)).partition(".")[0]
            extra = _EXTRAS.get(package, "demo")
            return f"this needs the package {package}: pip install 'tidegate[{extra}]'"
        case OSError(strerror=str(what)):
            place = "the output" if error.filename is None else error.filename
            return f"{place} cannot be written or read: {what}"
        case MemoryError():
            return " ".join(f"this needs more memory than there is: {error}".split()).rstrip(": ")
    return str(error)


def _drop_output() -> None:
    """Nobody takes our output; Python's own flush at the end must not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str, code: int) -> int:
    # What other libraries say may span lines.
    print("tidegate:", *sentence.split(), file=sys.stderr)
    return code
