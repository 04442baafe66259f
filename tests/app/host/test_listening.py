"""The socket of the server."""

import errno
import socket

import pytest

from app.host.listening import bind, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_name_and_an_address_of_either_family_can_be_listened_on(host: str) -> None:
    try:
        with bind(host, 0) as listener:
            port = listener.getsockname()[1]
            socket.create_connection((host, port)).close()
            assert url_of(listener).endswith(f":{port}")
    except OSError as error:
        if host != "::1":
            raise
        pytest.skip(f"no IPv6 here: {error}")


def test_a_port_is_taken_although_the_system_would_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As SO_REUSEADDR does on macOS beside a listener on all addresses.
    monkeypatch.setattr(socket, "SO_REUSEADDR", socket.SO_REUSEPORT)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use") as taken:
            bind("127.0.0.1", port).close()
        assert taken.value.errno == errno.EADDRINUSE
    with bind("127.0.0.1", port) as listener:
        assert listener.getsockname()[1] == port
