"""The socket of the server, opened before anything slow. The standard library only."""

import errno
import os
import socket
from typing import Any

_BACKLOG = 512
# To find out whether somebody listens; nobody answers sooner than that on this machine.
_ASK_SECONDS = 1.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Connections wait in it until the application is there.

    Args:
        host: name or address; of a name the first address, which for localhost is ::1 on macOS.

    Raises:
        OSError: the address is taken or is not of this machine.
    """
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


def _is_answered(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    """Whether somebody listens there already.

    macOS lets an address be bound beside somebody who listens on all of them (SO_REUSEADDR), and
    connections then go to the one or the other.
    """
    with socket.socket(family, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ASK_SECONDS)
        return asking.connect_ex(address) == 0


def url_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8000`"""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
