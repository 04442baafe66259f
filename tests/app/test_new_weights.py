"""A bundle that is replaced while it is served: every answer is of the one that it names."""

import io
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from app.headers import FINGERPRINT
from converter.bundle.opening import Bundle
from converter.fidelity.gates import ON_DEVICE, compare
from converter.runtime.loading import load_runtime
from tests.support.bundles import build_small, put_in_place
from tests.support.running import Server, running
from tests.support.scenarios import until
from tools.seeded_checkpoints import make_tokenizer

SERVE = (sys.executable, "-m", "app.cli", "serve")
SEQUENCES = tuple("".join(random.Random(seed).choices("ACGT", k=90)) for seed in range(24))
# Those asked for first: they are in the cache when the bundle is replaced, the others are not.
FIRST = SEQUENCES[:8]


class Reference:
    """What a bundle answers, computed here."""

    def __init__(self, bundle: Bundle) -> None:
        runtime = load_runtime(bundle, runtime="mil", threads=1)
        tokenizer = bundle.tokenizer()
        self.fingerprint = bundle.manifest.fingerprint
        self.ids: dict[str, list[int]] = {}
        self.rows: dict[str, NDArray[np.float32]] = {}
        for sequence in SEQUENCES:
            window = tokenizer.window(tokenizer.encode(sequence).ids)
            self.ids[sequence] = window.tolist()
            (self.rows[sequence],) = runtime.predict([window])


@dataclass
class Clients:
    """Ask for features and tokens until they are stopped, and keep all that they hear."""

    url: str
    sequences: tuple[str, ...] = FIRST
    features: list[tuple[str, str, NDArray[np.float32]]] = field(default_factory=list)
    tokens: list[tuple[str, str, list[int]]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self, number: int) -> None:
        generator = random.Random(number)
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.stopped.is_set():
                sequence = generator.choice(self.sequences)
                body = {"sequence": sequence}
                self._keep(client.post("/features?format=npy", json=body), sequence)
                self._keep(client.post("/tokenize", json=body), sequence)

    def _keep(self, answer: httpx.Response, sequence: str) -> None:
        if answer.status_code != 200:
            self.refused.append((answer.status_code, answer.json()["code"]))
            self.stopped.wait(0.02)
            return
        fingerprint = answer.headers[FINGERPRINT]
        if answer.headers["content-type"] == "application/json":
            assert answer.json()["fingerprint"] == fingerprint
            self.tokens.append((fingerprint, sequence, answer.json()["input_ids"]))
        else:
            self.features.append((fingerprint, sequence, np.load(io.BytesIO(answer.content))[0]))

    def hear_more(self, count: int) -> None:
        """Wait until so many more features are answered."""
        enough = len(self.features) + count
        until(lambda: len(self.features) >= enough, f"{count} answers")


@contextmanager
def clients(server: Server, count: int) -> Iterator[Clients]:
    crowd = Clients(server.url)
    threads = [threading.Thread(target=crowd.ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield crowd
    finally:
        crowd.stopped.set()
        for thread in threads:
            thread.join()


def kill_the_model(server: Server) -> None:
    (model,) = server.children()
    os.kill(model, signal.SIGKILL)


def test_new_weights_are_never_answered_under_the_old_fingerprint(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    make_tokenizer(300).save(str(tmp_path / "tokenizer.json"))
    new = build_small(tmp_path / "new", seed=1, tokenizer_file=tmp_path / "tokenizer.json")
    served = tmp_path / "served"
    put_in_place(tiny_bundle.path, served)
    before, after = Reference(tiny_bundle), Reference(new)
    with running((*SERVE, "--bundle", str(served), "--threads", "1")) as server:
        server.wait_for("ready", fingerprint=before.fingerprint)
        with clients(server, 6) as crowd:
            crowd.hear_more(60)
            put_in_place(new.path, served)
            crowd.sequences = SEQUENCES
            kill_the_model(server)
            server.wait_for("ready", restarts=1)
            crowd.hear_more(60)
        health, info = server.health(), server.http.get("/info").json()
    references = {each.fingerprint: each for each in (before, after)}
    for fingerprint, sequence, ids in crowd.tokens:
        assert ids == references[fingerprint].ids[sequence]
    for fingerprint, sequence, answered in crowd.features:
        expected = references[fingerprint].rows[sequence]
        # By any runtime: Core ML computes in fp16.
        assert ON_DEVICE.judge(compare(expected, answered[: len(expected)])) == "expected"
        assert not answered[len(expected) :].any()
    assert {each[0] for each in crowd.features} == set(references)
    assert health["fingerprint"] == info["bundle"]["fingerprint"] == after.fingerprint
    assert {code for _, code in crowd.refused} <= {
        "model.not_ready",
        "model.crashed",
        "model.replaced",
    }
