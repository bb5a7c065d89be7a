"""Nothing but an address that was given is asked for over the network."""

import socket

import pytest

from writers import commands


def test_no_command_opens_a_connection(tmp_path, monkeypatch):
    def refused(*arguments):
        raise AssertionError(f"a connection was asked for: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for name, run in commands(tmp_path).items():
        (tmp_path / name).mkdir()
        run(tmp_path / name, 0)


def test_a_connection_would_be_seen(monkeypatch):
    def refused(*arguments):
        raise AssertionError("seen")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    with pytest.raises(AssertionError, match="seen"):
        socket.create_connection(("localhost", 9))
