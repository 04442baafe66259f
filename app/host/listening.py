"""The sockets of the server, opened before anything slow. The standard library only."""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

_BACKLOG = 512
# To find out whether somebody listens; nobody answers sooner than that on this machine.
_ASK_SECONDS = 1.0
_LOCALHOST = ("127.0.0.1", "::1")
# Of a machine or a container without one of the two families.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# What to do, by the number of what went wrong.
_ADVICE = {
    errno.EADDRINUSE: "Try --port.",
    errno.EACCES: "Ports below 1024 are for the system: try --port.",
    errno.EADDRNOTAVAIL: "It is no address of this machine: try --host 127.0.0.1.",
}


class CannotListenError(Exception):
    """Why there is no socket, and what to do, as sentences."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, of one port. Connections wait in them until the application is there.

    Args:
        host: name or address. Of `localhost` both loopback addresses are listened on, as clients
            take the one or the other for it; of another name the first address.

    Raises:
        CannotListenError: the name is unknown, the address is taken or is not of this machine.
    """
    hosts = _LOCALHOST if host.lower().rstrip(".") == "localhost" else (host,)
    listeners: list[socket.socket] = []
    for each in hosts:
        try:
            listener = _bind(each, port)
        except OSError as error:
            is_last = each == hosts[-1]
            if error.errno in _NOT_HERE and (listeners or not is_last):
                continue
            for bound in listeners:
                bound.close()
            raise CannotListenError(_reason(host, port, error)) from error
        listeners.append(listener)
        port = listener.getsockname()[1]
    return listeners


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    if port and _is_answered(family, address):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _reason(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {host}: this machine knows no such name. Try --host 127.0.0.1."
    advice = _ADVICE.get(error.errno or 0, "")
    return f"cannot listen on {_url(host, port)}: {error.strerror}. {advice}".rstrip()


def _is_answered(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    """Whether somebody listens there already.

    macOS lets an address be bound beside somebody who listens on all of them (SO_REUSEADDR), and
    connections then go to the one or the other.
    """
    with socket.socket(family, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ASK_SECONDS)
        return asking.connect_ex(address) == 0


def urls_of(listeners: Sequence[socket.socket]) -> str:
    """`http://127.0.0.1:8000 and http://[::1]:8000`"""
    return " and ".join(_url(*listener.getsockname()[:2]) for listener in listeners)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
