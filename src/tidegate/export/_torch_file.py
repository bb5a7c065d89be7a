"""Files of `torch.save`, read without torch and without unpickling anything.

Such a file is an archive: the numbers of each tensor, and a program for Python's unpickler that
puts them together. The few of its instructions that a `state_dict` needs are followed here, on our
own stack and with plain values; a name of anything to import or to call is refused, unless it is
one of those that say "a tensor".
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ._bounded import read_zip

Array = np.ndarray

_ADVICE = "save it with safetensors.torch.save_file(module.state_dict(), ...)"
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_KNOWN = {_DICT, _TENSOR, _PARAMETER, *(f"torch {name}" for name in _STORAGES)}
_LONGEST = 2**24  # bytes of the program: some hundred a tensor


class _Global(NamedTuple):
    """The name of something that an unpickler would import."""

    name: str


class _Mark:
    """Where a list of things on the stack begins."""


class _Refused(Exception):
    """The program has what no state_dict has."""


def read_torch_file(data: bytes, name: object) -> tuple[dict[str, Array], list[str]]:
    """The tensors of a file of `torch.save`, and the keys of what else it holds.

    Of a checkpoint that holds a `state_dict` beside other things, that one.

    Raises:
        InputError: it is damaged, no such file, or holds what would have to be executed.
    """
    if data[:2] != b"PK":
        raise InputError(f"{name} is not in the format that torch has written since 1.6: {_ADVICE}")
    files = read_zip(data, name)
    program = next((key for key in files if key.rpartition("/")[2] == "data.pkl"), None)
    if program is None or any(key.endswith("constants.pkl") for key in files):
        raise InputError(f"{name} is an archive, but not of a state_dict: {_ADVICE}")
    folder = program.removesuffix("data.pkl")
    if files.get(f"{folder}byteorder", b"little") != b"little":
        raise InputError(f"{name} was written on a machine with another order of bytes")
    numbers = {key.removeprefix(f"{folder}data/"): file for key, file in files.items()}
    try:
        found = _Program(numbers).run(files[program])
    except _Refused as why:
        raise InputError(f"{name} {why}: nothing is executed; {_ADVICE}") from None
    except Exception as error:  # whatever a stranger's bytes lead to
        raise InputError(f"{name} cannot be read as a state_dict: {str(error)[:200]}") from None
    return _tensors(found, name, len(data))


def _tensors(found: Any, name: object, size: int) -> tuple[dict[str, Array], list[str]]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{name} holds {_kind(found)}, not a state_dict")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, _Tensor)}
    # A tensor may repeat one number of the file as often as it likes.
    if sum(tensor.size for tensor in tensors.values()) > 4 * size + 2**20:
        raise InputError(f"{name} has tensors of more numbers than it has bytes")
    others = [str(key) for key, value in found.items() if not isinstance(value, _Tensor)]
    return {key: tensor.array() for key, tensor in tensors.items()}, others


class _Tensor(NamedTuple):
    """A tensor as the program describes it: where it lies in the numbers of a storage."""

    numbers: Array
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    narrow: bool  # numbers are the upper halves of float32

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return int(np.prod(self.shape, dtype=object)) * self.numbers.itemsize

    def array(self) -> Array:
        """Its numbers."""
        step = self.numbers.itemsize
        view = np.lib.stride_tricks.as_strided(
            self.numbers[self.offset :], self.shape, [stride * step for stride in self.strides]
        )
        array = np.ascontiguousarray(view).reshape(self.shape)
        return (array.astype(np.uint32) << 16).view(np.float32) if self.narrow else array

    @classmethod
    def of(cls, numbers: tuple[Array, bool], offset: int, shape: Any, strides: Any) -> _Tensor:
        whole = all(
            isinstance(each, int) and each >= 0 for part in (shape, strides) for each in part
        )
        if not whole or len(shape) != len(strides) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"a tensor of shape {shape} and strides {strides} at {offset}")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if 0 in shape:
            return cls(numbers[0], 0, shape, strides, numbers[1])
        if last >= len(numbers[0]):
            raise ValueError(f"a tensor ends at number {last} of {len(numbers[0])}")
        return cls(numbers[0], offset, shape, strides, numbers[1])


class _Program:
    """Follows the instructions of an unpickler, as far as tensors by name need them."""

    def __init__(self, numbers: Mapping[str, bytes]):
        self.numbers = numbers
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What it leaves."""
        if len(program) > _LONGEST:
            raise _Refused(f"has a program of {len(program):,} bytes, which no state_dict has")
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._do(opcode.name, argument)
        raise ValueError("no end")

    def _do(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _MADE:
            self.stack.append(_MADE[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif name == "GLOBAL":
            self.stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            part, module = self.stack.pop(), self.stack.pop()
            self.stack.append(_named(f"{module} {part}"))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name == "TUPLE":
            self.stack.append(tuple(self._to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [self.stack.pop()]
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = (
                self._to_mark() if name == "SETITEMS" else [self.stack.pop() for _ in "kv"][::-1]
            )
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            self.stack.append(self._storage(self.stack.pop()))
        elif name == "REDUCE":
            given = self.stack.pop()
            self.stack.append(_called(self.stack.pop(), given))
        elif name == "BUILD":  # attributes of a dict, of which none matters
            self.stack.pop()
            self._top(dict)
        else:
            raise _Refused(f"has the instruction {name}")

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise ValueError(f"{_kind(top)} instead of a {kind.__name__}")
        return top

    def _to_mark(self) -> list[Any]:
        """What lies above the last mark; both leave the stack."""
        place = len(self.stack) - 1
        while not isinstance(self.stack[place], _Mark):
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _storage(self, given: Any) -> tuple[Array, bool]:
        """Numbers of the archive, and whether they are the upper halves of float32."""
        _, kind, key, _, count = given
        dtype = np.dtype(_STORAGES[kind.name.removeprefix("torch ")])
        data = self.numbers[key]
        if not isinstance(count, int) or count * dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes for {count} numbers")
        return np.frombuffer(data, dtype), kind.name == "torch BFloat16Storage"


def _named(name: str) -> _Global:
    if name not in _KNOWN:
        raise _Refused(f"names {name.replace(' ', '.')}, and not only tensors")
    return _Global(name)


def _called(function: Any, given: Any) -> Any:
    match function:
        case _Global(name) if name == _DICT:
            return dict(*given)
        case _Global(name) if name == _TENSOR:
            return _Tensor.of(*given[:4])
        case _Global(name) if name == _PARAMETER and isinstance(given[0], _Tensor):
            return given[0]
    raise _Refused("calls what is no tensor")


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, _Tensor) else f"a {type(value).__name__}"


# Instructions that put their argument on the stack, and those that put something new there.
_VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_MADE: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
