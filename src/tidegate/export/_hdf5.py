"""The small part of HDF5 in which Keras keeps weights: groups, whole arrays, and text.

A reader of our own, since a stranger's file is not given to a library in C. It knows what libhdf5
writes unless told otherwise (superblock 0, groups as B-trees of symbols, arrays in one piece),
holds every size and address against the file, and gives out no more bytes than the file has.
Addresses are places in the file, all numbers are little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..errors import InputError

Array = np.ndarray

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1
# Messages of an object's header.
_DATASPACE, _DATATYPE, _LAYOUT, _ATTRIBUTE, _CONTINUED, _SYMBOLS = 0x1, 0x3, 0x8, 0xC, 0x10, 0x11
_MOST_NODES = 100_000


class _Damaged(Exception):
    """What the file says does not fit its bytes."""


# What bytes that are not what they should be lead to.
_WRONG = (_Damaged, struct.error, ValueError, IndexError, OverflowError)


class _Message(NamedTuple):
    kind: int
    body: bytes


class HDF5File:
    """The bytes of a file, and what hangs on its root.

    Raises:
        InputError: it is no HDF5 file, or of a form that Keras does not write.
    """

    def __init__(self, data: bytes, name: str) -> None:
        """Find the root."""
        self.data, self.name = data, name
        self.left = len(data)  # bytes that may still be given out
        self.nodes = 0
        if not data.startswith(SIGNATURE):
            raise InputError(f"{name} is not an HDF5 file")
        if len(data) < 96 or data[8] != 0 or data[13:15] != b"\x08\x08":
            raise InputError(f"{name} is an HDF5 file of a newer form than Keras writes")
        _, self.root = struct.unpack_from("<QQ", data, 56)

    def arrays(self, group: str) -> dict[str, Array]:
        """All arrays in and below a group, by their paths from it; none if it is not there."""
        try:
            where = self._find(group)
            return {} if where is None else dict(self._arrays_below(where, "", 0))
        except _WRONG as error:
            raise InputError(f"{self.name} is damaged: {error}") from None

    def text(self, attribute: str) -> str | None:
        """A text that the root carries."""
        try:
            for message in self._messages(self.root):
                if message.kind == _ATTRIBUTE:
                    name, value = self._attribute(message.body)
                    if name == attribute:
                        return value
            return None
        except _WRONG as error:
            raise InputError(f"{self.name} is damaged: {error}") from None

    def _find(self, path: str) -> int | None:
        where = self.root
        for part in path.split("/"):
            where = dict(self._entries(where)).get(part)
            if where is None:
                return None
        return where

    def _arrays_below(self, where: int, path: str, depth: int) -> Iterator[tuple[str, Array]]:
        if depth > 16:
            raise _Damaged("its groups are nested too deeply")
        messages = self._messages(where)
        if any(message.kind == _SYMBOLS for message in messages):
            for name, inner in self._entries(where):
                yield from self._arrays_below(inner, f"{path}/{name}" if path else name, depth + 1)
        else:
            yield path, self._array(messages, path)

    def _bytes(self, start: int, count: int) -> bytes:
        if not 0 <= start <= start + count <= len(self.data):
            raise _Damaged(f"{count} bytes at {start} lie outside it")
        return self.data[start : start + count]

    def _unpack(self, layout: str, start: int) -> tuple:
        return struct.unpack(layout, self._bytes(start, struct.calcsize(layout)))

    def _visit(self) -> None:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _Damaged("its groups go round in circles")

    def _messages(self, where: int) -> list[_Message]:
        version, _, count, _, size = self._unpack("<BBHII", where)
        if version != 1:
            raise _Damaged(f"an object's header has version {version}, not 1")
        messages, blocks = [], [(where + 16, size)]
        while blocks:
            start, size = blocks.pop(0)
            self._visit()
            end = start + size
            while start + 8 <= end and len(messages) < count:
                kind, length, _ = self._unpack("<HHB3x", start)
                body = self._bytes(start + 8, length)
                start += 8 + length
                if kind == _CONTINUED:
                    blocks.append(struct.unpack_from("<QQ", body))
                messages.append(_Message(kind, body))
        return messages

    def _entries(self, where: int) -> Iterator[tuple[str, int]]:
        """Names in a group, and where their objects are."""
        for message in self._messages(where):
            if message.kind == _SYMBOLS:
                tree, heap = struct.unpack_from("<QQ", message.body)
                if self._bytes(heap, 4) != b"HEAP":
                    raise _Damaged("a group has no names")
                _, size, _, names = self._unpack("<4sxxxx2QQ", heap)
                yield from self._symbols(tree, self._bytes(names, size), 0)

    def _symbols(self, where: int, names: bytes, depth: int) -> Iterator[tuple[str, int]]:
        self._visit()
        kind = self._bytes(where, 4)
        if kind == b"SNOD":
            (count,) = self._unpack("<H", where + 6)
            for number in range(count):
                name, inner = self._unpack("<QQ", where + 8 + 40 * number)
                if name >= len(names):
                    raise _Damaged("a name lies outside its group")
                yield names[name : names.find(b"\0", name)].decode(), inner
            return
        if kind != b"TREE" or depth > 8:
            raise _Damaged("a group has no tree of names")
        (count,) = self._unpack("<H", where + 6)
        for number in range(count):
            (child,) = self._unpack("<Q", where + 32 + 16 * number)
            yield from self._symbols(child, names, depth + 1)

    def _array(self, messages: list[_Message], path: str) -> Array:
        found = {message.kind: message.body for message in messages}
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= set(found):
            raise _Damaged(f"{path} is no array")
        shape, dtype = _shape(found[_DATASPACE]), _dtype(found[_DATATYPE], path)
        size = math.prod(shape) * dtype.itemsize
        data = self._stored(found[_LAYOUT], size, path)
        self.left -= size
        if self.left < 0:
            raise _Damaged("its arrays have more numbers than it has bytes")
        return np.frombuffer(data, dtype).reshape(shape)

    def _stored(self, layout: bytes, size: int, path: str) -> bytes:
        version, kind = layout[:2]
        if version != 3 or kind not in (0, 1):
            raise _Damaged(f"{path} is stored in pieces or compressed, which Keras does not do")
        if kind == 0:  # inside the header
            (held,) = struct.unpack_from("<H", layout, 2)
            data = layout[4 : 4 + held]
        else:
            where, held = struct.unpack_from("<QQ", layout, 2)
            data = b"" if where == _UNDEFINED or size == 0 else self._bytes(where, size)
        if len(data) != size or held < size:
            raise _Damaged(f"{path} needs {size} bytes, and {held} are there")
        return data

    def _attribute(self, body: bytes) -> tuple[str, str | None]:
        version, names, types, spaces = struct.unpack_from("<BxHHH", body)
        if version not in (1, 3):
            return "", None
        step = 8 if version == 1 else 1  # each part begins at a multiple of it
        place = 8 + (version == 3)
        name = body[place : place + names].rstrip(b"\0").decode()
        place += _up(names, step)
        kind = body[place : place + types]
        data = body[place + _up(types, step) + _up(spaces, step) :]
        if not kind:
            return name, None
        match kind[0] & 15:
            case 3:  # text of fixed length
                return name, data.rstrip(b"\0").decode()
            case 9:  # of any length: in a heap
                length, heap, index = struct.unpack_from("<IQI", data)
                return name, self._heap(heap, index)[:length].decode()
        return name, None

    def _heap(self, where: int, wanted: int) -> bytes:
        signature, size = self._unpack("<4s4xQ", where)
        if signature != b"GCOL":
            raise _Damaged("a text is not where it should be")
        place, end = where + 16, where + size
        while place + 16 <= end:
            self._visit()
            index, _, length = self._unpack("<HH4xQ", place)
            if index == 0:
                break
            if index == wanted:
                return self._bytes(place + 16, length)
            place += 16 + _up(length, 8)
        raise _Damaged("a text is missing")


def _shape(body: bytes) -> tuple[int, ...]:
    version, rank = body[:2]
    if version not in (1, 2) or rank > 8:
        raise _Damaged(f"an array has {rank} axes")
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def _dtype(body: bytes, path: str) -> np.dtype:
    (size,) = struct.unpack_from("<I", body, 4)
    kind, order = body[0] & 15, body[1] & 1
    name = {0: "u" if not body[1] & 8 else "i", 1: "f"}.get(kind)
    if name is None or size not in (1, 2, 4, 8) or (name == "f" and size == 1):
        raise _Damaged(f"{path} holds no numbers that are known")
    return np.dtype(f"{'>' if order else '<'}{name}{size}")


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


Tree = Mapping[str, "Array | Tree"]

_INNER = 16  # room in a node of a tree, of which libhdf5 reads all: twice as many


def write_hdf5(tree: Tree) -> bytes:
    """A file of groups (mappings) and arrays of float32 or float64, as libhdf5 reads it."""
    writer = _Writer(max(4, -(-_widest(tree) // 2)))
    root = writer.group(tree)
    head = SIGNATURE + struct.pack("<8B", 0, 0, 0, 0, 0, 8, 8, 0)
    head += struct.pack("<HHI", writer.leaves, _INNER, 0)
    head += struct.pack("<QQQQ", 0, _UNDEFINED, len(writer.data), _UNDEFINED)
    head += struct.pack("<QQII16x", 0, root, 0, 0)
    writer.data[: len(head)] = head
    return bytes(writer.data)


def _widest(tree: Tree) -> int:
    inner = [_widest(value) for value in tree.values() if not isinstance(value, np.ndarray)]
    return max(len(tree), *inner, 0)


class _Writer:
    """Appends blocks; each method returns where it put one."""

    def __init__(self, leaves: int) -> None:
        self.data = bytearray(96)
        self.leaves = leaves  # half of the names that a group has room for

    def put(self, block: bytes) -> int:
        """At a multiple of eight."""
        where = len(self.data)
        self.data += block.ljust(_up(len(block), 8), b"\0")
        return where

    def group(self, tree: Tree) -> int:
        """An object header, a heap of names, a tree of one leaf, and all that is below."""
        names, entries, last = bytearray(8), b"", 0
        for name in sorted(tree):
            last = len(names)
            names += (name.encode() + b"\0").ljust(_up(len(name) + 1, 8), b"\0")
            value = tree[name]
            inner = self.array(value) if isinstance(value, np.ndarray) else self.group(value)
            entries += struct.pack("<QQII16x", last, inner, 0, 0)
        held = self.put(bytes(names))
        heap = self.put(struct.pack("<4s4x", b"HEAP") + struct.pack("<QQQ", len(names), 1, held))
        leaf = struct.pack("<4sBxH", b"SNOD", 1, len(tree)) + entries
        leaf = self.put(leaf.ljust(8 + 2 * self.leaves * 40, b"\0"))
        node = struct.pack("<4sBBHQQ", b"TREE", 0, 0, 1 if tree else 0, _UNDEFINED, _UNDEFINED)
        node += struct.pack("<QQQ", 0, leaf, last)
        node = self.put(node.ljust(24 + (4 * _INNER + 1) * 8, b"\0"))
        return self.header([(_SYMBOLS, struct.pack("<QQ", node, heap))])

    def array(self, array: Array) -> int:
        """An object header, and the numbers."""
        array = np.array(array, array.dtype.newbyteorder("<"), order="C")
        where = self.put(array.tobytes())
        shape = struct.pack(f"<BBB5x{array.ndim}Q", 1, array.ndim, 0, *array.shape)
        bits = 8 * array.itemsize
        exponent, mantissa = {4: (8, 23), 8: (11, 52)}[array.itemsize]
        bias = 2 ** (exponent - 1) - 1
        kind = struct.pack("<BBBBI", 0x11, 0x20, bits - 1, 0, array.itemsize)
        kind += struct.pack("<HHBBBBI", 0, bits, mantissa, exponent, 0, mantissa, bias)
        layout = struct.pack("<BBQQ", 3, 1, where, array.nbytes)
        return self.header([(_DATASPACE, shape), (_DATATYPE, kind), (_LAYOUT, layout)])

    def header(self, messages: list[tuple[int, bytes]]) -> int:
        """An object's header."""
        body = b""
        for kind, message in messages:
            message = message.ljust(_up(len(message), 8), b"\0")
            body += struct.pack("<HHB3x", kind, len(message), 0) + message
        return self.put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)
