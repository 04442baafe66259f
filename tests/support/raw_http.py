"""Requests byte by byte, and their answers."""

import socket
from typing import Protocol


class Listening(Protocol):
    """A server on this machine."""

    @property
    def port(self) -> int: ...


def exchange(server: Listening, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One raw request, the whole answer until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return read_answer(stream.read())


def read_answer(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body
