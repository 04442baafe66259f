"""The whole HTTP surface on a real socket, in front of the reference network.

The model is the reference network with seeded random weights, called in this process, so that tests
can hold it, break it, and compute the truth themselves.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from tokenizers import Tokenizer

from app.host.protocol import HttpProtocol
from app.main import create_app
from app.metrics import Metrics
from app.model.lifecycle import ServedModel
from app.model.prediction import Prediction
from app.model.scheduler import Scheduler
from app.model.state import State
from app.settings import Settings
from converter.bundle.manifest import Manifest
from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from converter.network.reference import ReferenceEncoder
from converter.pooling import Poolings, of_each, pooled
from converter.tokenizer import DnaTokenizer
from tests.support.bundles import fill
from tests.support.scenarios import until
from tools.seeded_checkpoints import make_checkpoint

HIDDEN = 64


@dataclass
class Truth:
    """What the answers are compared with: the published library and the reference network."""

    network: ReferenceEncoder
    library: Tokenizer
    tokenizer_file: Path
    manifest: Manifest

    @classmethod
    def make(cls, folder: Path, window: int = 512) -> "Truth":
        torch.set_num_threads(1)
        made = make_checkpoint(folder / "checkpoint", max_position_embeddings=window)
        checkpoint = load_checkpoint(find_checkpoint(str(made)))
        return cls(
            network=checkpoint.encoder(),
            library=Tokenizer.from_file(str(checkpoint.files.tokenizer)),
            tokenizer_file=checkpoint.files.tokenizer,
            manifest=fill(folder / "bundle", window=window),
        )

    def ids(self, sequence: str) -> list[int]:
        """Without specials."""
        ids: list[int] = self.library.encode(sequence, add_special_tokens=False).ids
        return ids

    def offsets(self, sequence: str) -> list[tuple[int, int]]:
        """Re-derived from the tokens' texts; one base for [UNK]."""
        ends = [0]
        for token in self.library.encode(sequence, add_special_tokens=False).tokens:
            ends.append(ends[-1] + (1 if token == "[UNK]" else len(token)))
        assert ends[-1] == len(sequence)
        return list(pairwise(ends))

    def rows(self, ids: list[int]) -> NDArray[np.float32]:
        """(n + 2, H): features of ids wrapped in [CLS] and [SEP], padded to a full window."""
        wrapped = [1, *ids, 2]
        padded = torch.tensor([wrapped + [3] * (self.manifest.window - len(wrapped))])
        with torch.no_grad():
            rows: NDArray[np.float32] = self.network(padded)[0, : len(wrapped)].numpy()
        return rows


@dataclass
class ReferenceModel:
    """The scheduler's model. `gate` holds predictions back while it is clear; `scale` is 1."""

    truth: Truth
    batch_tokens: int = 1
    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[NDArray[np.int32]] = field(default_factory=list)
    fail_after: int | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.gate.set()

    async def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> Prediction:
        self.seen += windows
        if self.fail_after is not None and len(self.seen) > self.fail_after:
            raise RuntimeError("broken by the test")
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        wanted = of_each(poolings, [len(window) for window in windows])
        return Prediction(list(map(pooled, map(self._rows, windows), wanted)), 0.001)

    def _rows(self, window: NDArray[np.int32]) -> NDArray[np.float32]:
        with torch.no_grad():
            rows = self.truth.network(torch.from_numpy(window[None].astype(np.int64)))[0]
        scaled: NDArray[np.float32] = rows.numpy() * np.float32(self.scale)
        return scaled


class ReadyLifecycle:
    """A lifecycle that is ready from the start."""

    runtime, restarts, retry_after, tokenizes = None, 0, 0.0, True

    def __init__(self, settings: Settings, truth: Truth, model: ReferenceModel) -> None:
        self.metrics = Metrics()
        self.state = State("ready", "ready")
        self.scheduler = Scheduler(settings.queue_tokens, self.metrics.observe_stage)
        self.scheduler.attach(model, truth.manifest.fingerprint)
        self.manifest = manifest = truth.manifest
        self.fingerprint = manifest.fingerprint
        self.tokenizer = DnaTokenizer(truth.tokenizer_file, model_max_length=manifest.window)
        self._ready = ServedModel(manifest, self.tokenizer, self.scheduler, manifest.fingerprint)

    def ready_model(self) -> ServedModel:
        return self._ready

    opened_model = ready_model

    def start(self) -> None:
        """Nothing to start."""

    def begin_stop(self) -> None:
        """Nothing to stop."""

    async def stop(self) -> None:
        """Nothing to stop."""


@dataclass
class Service:
    """A running server and what is behind it."""

    url: str
    client: httpx.Client
    model: ReferenceModel
    app: FastAPI
    lifecycle: ReadyLifecycle

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.client.post(path, **arguments)


class _Protocol(HttpProtocol):
    """The server's own, which looks at its client by itself."""

    def __init__(self, *, _loop: None = None, **arguments: Any) -> None:
        super().__init__(**arguments, stall_seconds=60, on_lost=lambda _: None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_again()

    def _look_again(self) -> None:
        if not self.transport.is_closing():
            self.look()
            self.loop.call_later(0.1, self._look_again)


@contextlib.contextmanager
def running(truth: Truth, **settings: Any) -> Iterator[Service]:
    """A server on a free port."""
    configured = Settings(**settings)
    model = ReferenceModel(truth)
    lifecycle = ReadyLifecycle(configured, truth, model)
    app = create_app(configured, lifecycle)  # type: ignore[arg-type]
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            http=_Protocol,
            h11_max_incomplete_event_size=configured.max_header_bytes,
            log_config=None,
            lifespan="on",
            ws="none",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), "the server listens")
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Service(url, client, model, app, lifecycle)
    finally:
        model.gate.set()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def full_queue(service: Service) -> Iterator[None]:
    """A request waits: without a cache, and with `queue_tokens=512`, no other finds room."""
    service.model.gate.clear()
    waiting = threading.Thread(
        target=httpx.post,
        args=(service.url + "/features",),
        kwargs={"json": {"sequence": "ACGT"}},
    )
    waiting.start()
    try:
        until(lambda: service.lifecycle.scheduler.open_flows == 1, "the request waits")
        yield
    finally:
        service.model.gate.set()
        waiting.join()
