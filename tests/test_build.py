"""What the build promises: the stub describes the module, and one OpenMP serves a process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate
from tidegate import _kernels

STUB = Path(tidegate.__file__).with_name("_kernels.pyi")
Arguments = dict[str, bool]  # the names, and whether each has a default


def arguments(function: ast.FunctionDef) -> Arguments:
    """The arguments of a function."""
    names = [argument.arg for argument in function.args.args]
    first = len(names) - len(function.args.defaults)
    return {name: i >= first for i, name in enumerate(names)}


def described(body: list[ast.stmt], owner: str = "") -> dict[str, Arguments | None]:
    """Names that a stub has; functions with their arguments, others with None."""
    names: dict[str, Arguments | None] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names[owner + node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            names |= {node.name: None} | described(node.body, f"{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[owner + node.target.id] = None
    return names


def offered(space: object, owner: str = "") -> dict[str, Arguments | None]:
    """The same of the compiled module, by the signatures that it carries."""
    names: dict[str, Arguments | None] = {}
    for name, value in vars(space).items():
        if name.startswith("__") and name != "__init__":
            continue
        if isinstance(value, type):
            names |= {name: None} | offered(value, f"{name}.")
        elif signatures := getattr(value, "__nb_signature__", None):
            ((text, _, _),) = signatures
            # nanobind writes a default as \0, the place of its value.
            (function,) = ast.parse(f"{text}: ...".replace("\\", "")).body
            assert isinstance(function, ast.FunctionDef)
            names[owner + name] = arguments(function)
        else:
            names[owner + name] = None
    return names


def test_the_stub_describes_the_module_that_was_built():
    stub = described(ast.parse(STUB.read_text("utf-8")).body)
    assert stub == offered(_kernels)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize(("first", "second"), [("torch", "tidegate"), ("tidegate", "torch")])
def test_one_openmp_serves_torch_and_us_whoever_comes_first(first, second):
    pytest.importorskip("torch")
    script = f"""
import {first}, {second}
from tidegate import _kernels
torch.set_num_threads(3)
runtimes = {{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}}
print(_kernels.default_threads(), len(runtimes))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["3", "1"]
