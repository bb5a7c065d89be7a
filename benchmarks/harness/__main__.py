"""The worker's end of the pipe: `python -m harness PEER DESCRIPTOR`."""

from __future__ import annotations

import importlib
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from harness.cases import Case
from harness.memory import peak_of
from harness.runner import Runner, Slice, sample


class Server:
    """Answers requests with the methods of their names."""

    def __init__(self, peer: str) -> None:
        self.module = importlib.import_module(f"harness.peers.{peer}")
        self.runners: dict[str, Runner] = {}

    def prepare(self, case: Case) -> list[str]:
        """Build a case, name the ways in which this peer computes it."""
        self.runners = {}  # first, so that two cases never share the memory
        self.runners = self.module.prepare(case)
        return list(self.runners)

    def results(self, name: str) -> list[np.ndarray]:
        """Numbers to compare with the reference."""
        return self.runners[name].results()

    def kept(self, name: str) -> int | None:
        """Bytes held between forward and backward, where the peer can tell."""
        kept = self.runners[name].kept
        return kept() if kept else None

    def peak(self, name: str) -> int:
        """Bytes by which this process grows during a call, at most."""
        return peak_of(self.runners[name].call)

    def sample(self, name: str, seconds: float) -> Slice:
        """Times of calls."""
        return sample(self.runners[name].call, seconds)

    def tell(self, function: str, *arguments: Any) -> Any:
        """Call a function of the peer's module."""
        return getattr(self.module, function)(*arguments)


def serve(peer: str, pipe: Connection) -> None:
    """Answer requests until the parent closes the pipe."""
    server: Server | None = None
    while True:
        try:
            request, arguments = pipe.recv()
        except EOFError:
            return
        try:
            server = server or Server(peer)
            answer = "", getattr(server, request)(*arguments)
        except ModuleNotFoundError as error:
            answer = "missing", error.name
        except Exception:
            answer = "failed", traceback.format_exc()
        pipe.send(answer)


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])))
