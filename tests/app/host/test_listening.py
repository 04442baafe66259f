"""The socket of the server."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from app.host.listening import CannotListenError, bind, urls_of
from tests.support.running import running


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in bind(host, port)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_of_either_family_can_be_listened_on(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    with listening(host) as (listener,):
        port = listener.getsockname()[1]
        socket.create_connection((host, port)).close()
        assert urls_of([listener]).endswith(f":{port}")


def test_localhost_is_both_loopback_addresses_with_one_port() -> None:
    with listening("localhost") as listeners:
        port = listeners[0].getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        if has_ipv6():
            socket.create_connection(("::1", port)).close()
            assert urls_of(listeners) == f"http://127.0.0.1:{port} and http://[::1]:{port}"


def test_localhost_is_taken_where_one_of_its_addresses_is() -> None:
    with listening("127.0.0.1") as (other,), pytest.raises(CannotListenError, match=r"--port\.$"):
        bind("localhost", other.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("no-such-name.invalid", "this machine knows no such name. Try --host 127.0.0.1."),
        ("192.0.2.1", "It is no address of this machine: try --host 127.0.0.1."),
    ],
)
def test_what_is_wrong_with_a_name_is_no_matter_of_ports(host: str, advice: str) -> None:
    with pytest.raises(CannotListenError) as wrong:
        bind(host, 8000)
    assert advice in str(wrong.value)
    assert "--port" not in str(wrong.value)


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
        with pytest.raises(CannotListenError, match="in use"):
            bind("127.0.0.1", port)
    with listening("127.0.0.1", port) as (listener,):
        assert listener.getsockname()[1] == port


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_a_server_answers_there_and_to_no_foreign_name(tmp_path: Path, host: str) -> None:
    with running(GENA_BUNDLE=str(tmp_path / "none"), GENA_HOST=host) as server:
        urls = [f"http://[::1]:{server.port}/info"]
        urls += [f"http://127.0.0.1:{server.port}/info"] if host == "localhost" else []
        for url in urls:
            assert httpx.get(url).status_code == 200
            assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 421
        assert server.stop() == 0
