"""`gena serve` as it is: the converter, the package and its executor behind it."""

import contextlib
import io
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from converter.bundle.opening import Bundle
from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from converter.runtime.torch_runtime import cpu_has_bf16
from tests.support.bundles import build_small, flip_in_place
from tests.support.running import NOTE_IMPORTS, Server, running
from tests.support.scenarios import is_running, until

SERVE = (sys.executable, "-m", "app.cli", "serve")
DNA = "ACGTTGCAAGGCTATTC" * 20


def features(server: Server) -> np.ndarray:
    answer = server.http.post("/features?format=npy", json={"sequence": DNA})
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


@contextlib.contextmanager
def an_answer_of_http_1_0(server: Server) -> Iterator[socket.socket]:
    """The connection of an answer that has begun; it takes seconds."""
    body = "".join(f">r{n}\n{n:b}\n" for n in range(4000)).replace("0", "A").replace("1", "C")
    head = f"POST /embeddings?format=tsv HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall((head + body).encode())
        assert connection.recv(2**12).startswith(b"HTTP/1.1 200")
        yield connection


def test_a_bundle_is_served_and_survives_the_death_of_its_model(
    tiny_bundle: Bundle, tiny_checkpoint: Path
) -> None:
    command = (*SERVE, "--bundle", str(tiny_bundle.path), "--threads", "1")
    # Each window alone: what is lost with the model is not tried again.
    with running(command, GENA_BATCH_TOKENS="1", **NOTE_IMPORTS) as server:
        health = server.wait_for("ready")
        assert health["fingerprint"] == tiny_bundle.manifest.fingerprint
        assert health["runtime"]["name"] == ("coreml" if sys.platform == "darwin" else "torch")
        answered = features(server)

        tokenizer = tiny_bundle.tokenizer()
        window = tokenizer.window(tokenizer.encode(DNA).ids)
        with torch.no_grad():
            encoder = load_checkpoint(find_checkpoint(str(tiny_checkpoint))).encoder()
            expected = encoder(torch.from_numpy(window[None].astype(np.int64)))[0].numpy()
        real = answered[0, : len(window)]
        error = np.sqrt(np.mean((real - expected) ** 2))
        assert 20 * np.log10(np.abs(expected).max() / error) >= 60

        assert "tokenizers" in server.imported()
        assert not {"torch", "coremltools"} & server.imported()

        (model,) = server.children()
        with an_answer_of_http_1_0(server) as answer:
            os.kill(model, signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                list(iter(lambda: answer.recv(2**16), b""))
        server.wait_for("ready", restarts=1)
        assert "answer cut off: model.crashed" in server.text
        assert "ASGI" not in server.text
        np.testing.assert_array_equal(features(server), answered)
        (model,) = server.children()
        assert server.stop() == 0
        assert not is_running(model)


def test_files_that_change_while_they_are_served_change_no_answer(tmp_path: Path) -> None:
    bundle = build_small(tmp_path / "b", embedding="host")
    serve = (*SERVE, "--bundle", str(bundle.path), "--threads", "1")
    with running(serve, GENA_CACHE_BYTES="0") as server:
        server.wait_for("ready")
        answered = features(server)
        for name in bundle.manifest.files:
            flip_in_place(bundle.path / name)
            np.testing.assert_array_equal(features(server), answered)
        for name in bundle.manifest.files:
            os.truncate(bundle.path / name, 0)
            np.testing.assert_array_equal(features(server), answered)
        assert server.health()["restarts"] == 0
        (model,) = server.children()
        os.kill(model, signal.SIGKILL)
        assert "is damaged" in server.wait_for("failed")["message"]


def leftovers(folder: Path) -> list[Path]:
    """Everything below a folder that is more than a lock."""
    return [each for each in folder.rglob("*") if each.is_file() and each.stat().st_size]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_in_the_middle_of_a_real_conversion(
    tiny_checkpoint: Path, tmp_path: Path, end: signal.Signals
) -> None:
    settings = {"GENA_BUNDLES": str(tmp_path), "GENA_MODEL": str(tiny_checkpoint)}
    with running(SERVE, **settings) as server:
        until(
            lambda: server.wait_for("converting")["progress"]["stage"] == "convert",
            "the conversion has begun",
        )
        (converter,) = server.children()
        server.process.send_signal(end)
        code = server.wait()
    assert code == (0 if end is signal.SIGTERM else -end)
    until(lambda: not is_running(converter), "the converter ended with its server")
    assert leftovers(tmp_path) == []


def test_features_in_less_than_fp32_are_another_fingerprints(tmp_path: Path) -> None:
    if not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bf16")
    bundle = build_small(tmp_path / "b")
    serve = (*SERVE, "--bundle", str(bundle.path), "--threads", "1")
    found = {}
    for compute in ("fp32", "bf16"):
        with running(serve, GENA_RUNTIME="torch", GENA_COMPUTE=compute) as server:
            health = server.wait_for("ready")
            answer = server.http.post("/features", json={"sequence": DNA, "pooling": "mean"})
            stamps = {
                health["fingerprint"],
                server.http.get("/info").json()["fingerprint"],
                answer.headers["X-Gena-Fingerprint"],
                answer.json()["fingerprint"],
            }
            found[compute] = (stamps, health["fidelity"], health["runtime"]["compute"])
    own = bundle.manifest.fingerprint
    assert found["fp32"] == ({own}, "expected", "fp32")
    assert found["bf16"] == ({f"{own}-bf16"}, "flagged", "bf16")
