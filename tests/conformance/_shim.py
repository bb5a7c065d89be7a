"""Run a test file of PyTorch 1.13 against today's torch, with our GRU in torch's place or not.

python _shim.py (ours | torch) TEST [arguments of unittest]
"""

import ast
import functools
import importlib
import runpy
import sys
import types
from pathlib import Path

import torch


def put_back(test: Path) -> None:
    """Give torch again what the test imports or expects of it, and it has changed since."""
    torch.load = functools.partial(torch.load, weights_only=False)
    six = types.ModuleType("torch._six")
    six.inf, six.nan = float("inf"), float("nan")
    sys.modules["torch._six"] = six
    for node in ast.walk(ast.parse(test.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch."):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):  # a list of tests of others, or a decorator
                    setattr(module, name.name, [] if name.name.endswith("tests") else ignore)


def keep_to(words: list[str]) -> None:
    """Make tests per device and dtype only of those that will run: some others' names now clash."""
    from torch.testing._internal import common_device_type

    whole = common_device_type.instantiate_device_type_tests

    def of_some(tests: type, *arguments, **options):
        for name in list(vars(tests)):
            if name.startswith("test_") and not any(word in name for word in words):
                delattr(tests, name)
        return whole(tests, *arguments, **options)

    common_device_type.instantiate_device_type_tests = of_some


def ignore(*arguments, **_):
    """A decorator, with or without arguments, that changes nothing."""
    if len(arguments) == 1 and callable(arguments[0]):
        return arguments[0]
    return lambda function: function


def replace() -> None:
    """Let torch's tests find our classes under torch's names."""
    from torch.testing._internal import common_modules

    from tidegate.nn import GRU, GRUCell

    ours = {torch.nn.GRU: GRU, torch.nn.GRUCell: GRUCell}
    for info in common_modules.module_db:
        info.module_cls = ours.get(info.module_cls, info.module_cls)
    torch.nn.GRU, torch.nn.GRUCell = GRU, GRUCell


if __name__ == "__main__":
    _, whose, path, *_ = sys.argv
    put_back(Path(path))
    if whose == "ours":
        replace()
    if path.endswith("test_nn.py"):  # in test_modules.py the modules give the names
        keep_to([word for word in sys.argv[4:] if word != "-k"])
    sys.argv = sys.argv[2:]
    runpy.run_path(path, run_name="__main__")
