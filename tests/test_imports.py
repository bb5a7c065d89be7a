"""Imports go one way, and what needs no torch loads none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

PACKAGE = Path(tidegate.__file__).parent

# Each module imports only itself and those before it.
ORDER = [
    "errors",
    "_shapes",
    "_estimator",
    "_files",
    "_tensors",
    "_model_file",
    "_stream_state",
    "_sequences",
    "_kernels",
    "reference",
    "weights",
    "ops",
    "_text",
    "data",
    "_series",
    "runtime",
    "nn",
    "_checkpoint",
    "_members",
    "train",
    "_inspectable",
    "_plots",
    "forecast",
    "classify",
    "language",
    "inspect",
    "export",
    "_commands",
    "cli",
    "__main__",
]
NUMPY_ALONE = [name for name in ORDER[: ORDER.index("nn")] if [*PACKAGE.glob(f"{name}*")]]


def module_of(path: Path) -> str:
    """The part of the package that a file belongs to, as `ORDER` names it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, also inside a function."""
    names = set()
    package = ("tidegate", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("tidegate.")}


FILES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_before_it(path):
    assert module_of(path) in ORDER, f"say in ORDER where {module_of(path)} stands"
    allowed = ORDER[: ORDER.index(module_of(path)) + 1]
    assert imported(path) - {"__version__"} <= set(allowed)


@pytest.mark.parametrize("name", ["", *NUMPY_ALONE])
def test_the_lower_half_needs_numpy_alone(name):
    module = f"tidegate.{name}".rstrip(".")
    script = f"""
import sys
before = set(sys.modules)
sys.path[:0] = {sys.path}
import {module}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*(loaded - sys.stdlib_module_names))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    of_numpy = {"numpy", "cython_runtime", "_cython_3_0_2"}  # the last two from 1.26
    assert set(result.stdout.split()) <= {"tidegate", "safetensors", *of_numpy}
