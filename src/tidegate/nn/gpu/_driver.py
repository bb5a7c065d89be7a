"""The CUDA driver by ctypes: load machine code, launch a kernel on torch's stream."""

from __future__ import annotations

import ctypes
import functools
import sys

from tidegate.nn.gpu._nvrtc import Unusable

_SHARED_MEMORY_OF_A_BLOCK = 97  # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_MAX_DYNAMIC_SHARED_SIZE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

Blocks = tuple[int, int, int]


class Function:
    """A kernel in the context of one device."""

    def __init__(self, handle: ctypes.c_void_p, shared: int) -> None:
        self.handle, self.shared = handle, shared

    def __call__(
        self, arguments: ctypes.Structure, blocks: Blocks, threads: int, stream: int
    ) -> None:
        """Launch it; the device of the stream must be the current one.

        Raises:
            Unusable: the driver refuses.
        """
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        code = library().cuLaunchKernel(
            self.handle,
            *map(ctypes.c_uint, (*blocks, threads, 1, 1, self.shared)),
            ctypes.c_void_p(stream),
            parameters,
            None,
        )
        _check(code, "cuLaunchKernel")


def load(code: bytes, shared: dict[str, int]) -> dict[str, Function]:
    """The kernels of a cubin, by name, in the current device; `shared` is the memory of each.

    Raises:
        Unusable: the driver refuses the machine code.
    """
    module = ctypes.c_void_p()
    _check(library().cuModuleLoadData(ctypes.byref(module), code), "cuModuleLoadData")
    return {name: _function(module, name, size) for name, size in shared.items()}


def enter(device: int) -> None:
    """Give the calling thread the context that torch works in, if it has none yet.

    torch gives a thread its context with the first thing that it does for it; a thread of autograd,
    or of the user, that comes to a kernel first has none, and the driver refuses all.

    Raises:
        Unusable: the driver refuses.
    """
    context = ctypes.c_void_p()
    _check(library().cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
    if not context:
        _check(library().cuCtxSetCurrent(_primary_context(device)), "cuCtxSetCurrent")


def shared_memory(device: int) -> int:
    """Bytes of shared memory that a block may have."""
    value = ctypes.c_int()
    code = library().cuDeviceGetAttribute(
        ctypes.byref(value), _SHARED_MEMORY_OF_A_BLOCK, _device(device)
    )
    _check(code, "cuDeviceGetAttribute")
    return value.value


@functools.cache
def library() -> ctypes.CDLL:
    """The driver's library.

    Raises:
        Unusable: there is none.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise Unusable(f"the CUDA driver's {name} cannot be loaded") from error


@functools.cache
def _primary_context(device: int) -> ctypes.c_void_p:
    """The context of a device that torch's runtime has; it is kept to the process's end."""
    context = ctypes.c_void_p()
    code = library().cuDevicePrimaryCtxRetain(ctypes.byref(context), _device(device))
    _check(code, "cuDevicePrimaryCtxRetain")
    return context


def _device(index: int) -> ctypes.c_int:
    handle = ctypes.c_int()
    _check(library().cuDeviceGet(ctypes.byref(handle), index), "cuDeviceGet")
    return handle


def _function(module: ctypes.c_void_p, name: str, shared: int) -> Function:
    handle = ctypes.c_void_p()
    code = library().cuModuleGetFunction(ctypes.byref(handle), module, name.encode())
    _check(code, "cuModuleGetFunction")
    if shared:
        code = library().cuFuncSetAttribute(handle, _MAX_DYNAMIC_SHARED_SIZE, shared)
        _check(code, "cuFuncSetAttribute")
    return Function(handle, shared)


def _check(code: int, what: str) -> None:
    if code:
        text = ctypes.c_char_p()
        library().cuGetErrorString(code, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"code {code}"
        raise Unusable(f"{what} failed: {reason}")
