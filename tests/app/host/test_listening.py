"""The socket of the server."""

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
