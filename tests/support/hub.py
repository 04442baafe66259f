"""A server on this machine that answers as the hub does."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "a" * 40
TOKEN_ROUTE = "/api/models/lab/model/xet-read-token"
RESOLVE = re.compile(r"/lab/model/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """What the server holds and how it misbehaves.

    Attributes:
        large: files in large-file storage: their announced digest is a SHA-256.
        cut: name -> bytes after which the first download breaks off.
        always_cut: name -> bytes after which every download breaks off.
        altered: name -> bytes that are sent instead.
        status: HTTP status and error code of every answer.
        page: of a network that wants people to log in, in place of every answer.
        back_end: address where large files lie (hf_xet's), as on the hub itself.
        gate: large files are held back while it is clear.
    """

    files: dict[str, bytes]
    large: set[str] = field(default_factory=lambda: {"model.safetensors", "pytorch_model.bin"})
    cut: dict[str, int] = field(default_factory=dict)
    always_cut: dict[str, int] = field(default_factory=dict)
    altered: dict[str, bytes] = field(default_factory=dict)
    status: tuple[int, str] | None = None
    page: bytes | None = None
    back_end: str | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to take it for the hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def etag(self, name: str) -> str:
        content = self.files[name]
        if name in self.large:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does; a server's own subclass says for which `hub`."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        found = RESOLVE.fullmatch(self.path)
        if self.hub.page is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(self.hub.page)))
            self.end_headers()
            self.wfile.write(self.hub.page if with_body else b"")
        elif self.hub.status is not None:
            self.fail(*self.hub.status)
        elif self.path == TOKEN_ROUTE and self.hub.back_end is not None:
            self.send_token(self.hub.back_end)
        elif found is None:
            self.fail(401, "RepoNotFound")
        elif found[1] not in ("main", COMMIT):
            self.fail(404, "RevisionNotFound")
        elif found[2] not in self.hub.files:
            self.fail(404, "EntryNotFound")
        else:
            self.send_file(found[2], with_body=with_body)

    def send_file(self, name: str, *, with_body: bool) -> None:
        body = self.hub.altered.get(name, self.hub.files[name])
        first = 0
        if requested := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            first = int(requested[1])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.hub.etag(name)}"')
        if name in self.hub.large:
            self.send_header("X-Linked-Etag", f'"{self.hub.etag(name)}"')
            self.send_header("X-Linked-Size", str(len(body)))
            if self.hub.back_end is not None:
                self.send_header("X-Xet-Hash", "0" * 63 + "1")
                self.send_header("X-Xet-Refresh-Route", self.hub.url + TOKEN_ROUTE)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        if with_body:
            if name in self.hub.large:
                self.hub.gate.wait()
            end = self.hub.cut.pop(name, self.hub.always_cut.get(name, len(body)))
            self.wfile.write(body[first:end])
            if end < len(body):
                self.close_connection = True

    def send_token(self, back_end: str) -> None:
        self.send_response(200)
        self.send_header("X-Xet-Cas-Url", back_end)
        self.send_header("X-Xet-Access-Token", "token")
        self.send_header("X-Xet-Token-Expiration", str(int(time.time()) + 3600))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Its server, whose address is `hub.url`."""
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        server.server_close()
