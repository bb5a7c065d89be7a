"""A peer in a process of its own: the parent asks, the worker prepares, computes and times.

Libraries that share a process share their troubles: thread pools that spin on after a call, and
settings of the floating-point unit. Here each has its own, and sleeps while another is timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Self

REQUIRED = ("tidegate", "pytorch")
OPTIONAL = ("onnxruntime", "openvino", "jax", "numpy")


class PeerError(Exception):
    """A peer could not do what it was asked; carries its traceback."""


class MissingError(Exception):
    """A package that a peer needs is not installed."""


class Worker:
    """The parent's end of a peer's process; `harness.__main__` is the other."""

    def __init__(self, peer: str, threads: int, isa: str = "") -> None:
        self.peer = peer
        self.pipe, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", peer, str(theirs.fileno())],
            env=os.environ | environment(threads, isa),
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parent.parent,
        )
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.pipe.close()
        self.process.wait()

    def ask(self, request: str, *arguments: Any) -> Any:
        """Send a request, wait for its answer."""
        try:
            self.pipe.send((request, arguments))
            error, answer = self.pipe.recv()
        except (EOFError, BrokenPipeError):
            raise PeerError(f"{self.peer}: its process ended, {self.process.wait()}") from None
        if error:
            raise (MissingError if error == "missing" else PeerError)(f"{self.peer}: {answer}")
        return answer


class Peers:
    """The workers of one setting: a number of threads, an instruction set."""

    def __init__(self, threads: int, isa: str) -> None:
        names = REQUIRED if isa else REQUIRED + OPTIONAL
        self.workers = [Worker(name, threads, isa) for name in names]
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Ask each who it is; the optional ones may be missing."""
        for worker in list(self.workers):
            try:
                self.versions[worker.peer] = worker.ask("tell", "version")
            except MissingError:
                if worker.peer in REQUIRED:
                    self.__exit__()
                    raise
                worker.__exit__()
                self.workers.remove(worker)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.__exit__()


def environment(threads: int, isa: str) -> dict[str, str]:
    """Variables that hold a peer to a number of threads and, where one is named, to an `isa`."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")  # the last is JAX's
    settings = dict.fromkeys(names, str(threads))
    if isa:
        names = ("MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
        settings |= dict.fromkeys(names, isa.upper())
        settings |= {"TIDEGATE_ISA": isa, "ATEN_CPU_CAPABILITY": isa}
    return settings
