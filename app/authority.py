"""Names and addresses as Host and Origin carry them, read strictly (RFC 3986, RFC 6454)."""

import ipaddress
import re
from dataclasses import dataclass

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_LABELS = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Authority:
    """Where a URL points.

    Attributes:
        name: lower case, without the brackets of an IPv6 address and the dot of a rooted name.
        port: None where it does not say.
    """

    name: str
    port: int | None = None

    def on(self, port: int) -> tuple[str, int]:
        """Name and port; the one given where it does not say."""
        return self.name, port if self.port is None else self.port


def read_authority(text: str) -> Authority | None:
    """`[::1]:8000` -> ::1, 8000; `Localhost` -> localhost. None: it is no name and port.

    An IPv6 address may also stand without brackets, and then has no port.
    """
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        return None
    name = _address(found[1][1:-1]) if found[1].startswith("[") else _name(found[1])
    port = None if found[2] is None else int(found[2])
    if name is None or (port is not None and port > 65535):
        return None
    return Authority(name, port)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _name(text: str) -> str | None:
    name = text.lower().removesuffix(".")
    return name if _LABELS.fullmatch(name) else None


def is_origin(text: str) -> bool:
    """Whether a browser could send this as an Origin: `https://lab.example`, without a path."""
    scheme, _, rest = text.partition("://")
    return bool(re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme)) and read_authority(rest) is not None


def same_origin(origin: str, host: Authority) -> bool:
    """Whether an Origin names this host and port.

    The scheme may differ: a proxy that speaks TLS passes on Host and not the scheme.
    """
    scheme, _, rest = origin.partition("://")
    port, named = _PORTS.get(scheme), read_authority(rest)
    return port is not None and named is not None and named.on(port) == host.on(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens on this name or address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
