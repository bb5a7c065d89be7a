"""Errors of a command become one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from ..errors import InputError

# Which extra brings a package, where that is not the largest of them.
_EXTRAS = {"torch": "torch", "onnx": "onnx", "tokenizers": "language"}

FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def guarded(run: Callable[..., object], tokens: Sequence[str]) -> int:
    """Run a command; with `--debug` among the tokens, an error shows its traceback too.

    Returns:
        The exit code: 0, 1 if the training failed, 2 for bad input, 130 after Ctrl-C.
    """
    try:
        run(tokens, result_action="return_value")
    except KeyboardInterrupt:
        return _say("stopped", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output left; Python's own flush at the end must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (InputError, FloatingPointError, ModuleNotFoundError) as error:
        if "--debug" in tokens:
            traceback.print_exc()
        if isinstance(error, ModuleNotFoundError):
            return _say(_what_is_missing(error), BAD_INPUT)
        return _say(str(error), BAD_INPUT if isinstance(error, InputError) else FAILED)
    return 0


def _what_is_missing(error: ModuleNotFoundError) -> str:
    package = (error.name or str(error)).partition(".")[0]
    return (
        f"this needs the package {package}: pip install 'tidegate[{_EXTRAS.get(package, 'demo')}]'"
    )


def _say(sentence: str, code: int) -> int:
    # What other libraries say may span lines.
    print("tidegate:", *sentence.split(), file=sys.stderr)
    return code
