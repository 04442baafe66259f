"""The server as a process: start, faults of its children, load, end. Stand-ins for the model."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.support import stand_in_model as stand_in
from tests.support.running import NOTE_IMPORTS, Server, running
from tests.support.scenarios import is_running, until
from tests.support.stand_in_bundle import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def server(bundle: Path) -> Iterator[Server]:
    with running(GENA_BUNDLE=str(bundle), GENA_LOG_FORMAT="json") as server:
        server.wait_for("ready")
        yield server


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = make_bundle(tmp_path_factory.mktemp("lasting") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_LOG_FORMAT="json") as server:
        yield server


@pytest.fixture
def lasting(lived: Server) -> Server:
    """One that others have used, for tests that do not end it."""
    lived.wait_for("ready")
    return lived


@pytest.fixture
def converting(tmp_path: Path) -> dict[str, str]:
    """Settings of a server that has to convert; orders go into `tmp_path`."""
    return {"GENA_BUNDLES": str(tmp_path), "GENA_MODEL": "lab/model"}


def wait_for_flows(server: Server, count: int) -> None:
    text = f"gena_open_flows {count}.0\n"
    until(lambda: text in server.http.get("/metrics").text, f"{count} requests are in progress")


def test_health_tells_what_is_served(server: Server, bundle: Path) -> None:
    answer = server.http.get("/health")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert answer.status_code == 200
    health = answer.json()
    assert health["model"] == "stand-in"
    assert health["fingerprint"] == manifest["fingerprint"]
    assert health["fidelity"] == "expected"
    assert health["runtime"]["lengths"] == [128, 512]
    assert health["restarts"] == 0
    assert server.predict(1, 9, 2).json()["rows"] == [1, 9, 2]


def test_a_converted_model_is_served_and_progress_is_told(
    converting: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "convert_orders").write_text("wait")
    with running(**converting) as server:
        health = server.wait_for("converting", progress={"stage": "convert", "fraction": 0.5})
        assert server.http.get("/health").status_code == 503
        refused = server.predict(1, 9, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "model.not_ready")
        assert "Retry-After" in refused.headers
        assert health["model"] == "lab/model"
        until(lambda: "chatter of a library" in server.text, "what it says is in the log")
        # SIGKILL to the converter: told as it is, tried again when somebody asks for it.
        os.kill(*server.children(), signal.SIGKILL)
        failed = server.wait_for("failed")
        assert failed["error"]["code"] == "conversion.died"
        assert "SIGKILL" in failed["message"]
        assert server.http.post("/health/retry").status_code == 202
        server.wait_for("ready")
        assert server.predict(1, 9, 2).status_code == 200
        assert server.http.post("/health/retry").status_code == 409


def test_a_failure_says_why_and_what_to_do_and_is_not_retried_in_a_loop(
    converting: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "convert_orders").write_text("fail\nfail\n")
    with running(**converting) as server:
        health = server.wait_for("failed")
        assert health["error"]["code"] == "checkpoint.unavailable"
        assert health["error"]["message"] == "No network."
        assert "gena-mini" in health["error"]["advice"]
        assert 0 < health["error"]["retry_after_seconds"] <= 30
        refused = server.predict(1, 9, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "model.failed")
        assert refused.json()["reason"] == "checkpoint.unavailable"
        assert server.health()["status"] == "failed"
        assert (tmp_path / "convert_orders").read_text() == "fail\n"
        assert server.children() == []


def test_a_damaged_bundle_is_built_again(converting: dict[str, str]) -> None:
    with running(**converting) as server:
        server.wait_for("ready")
        assert server.stop() == 0
    (weights,) = Path(converting["GENA_BUNDLES"]).glob("*/model.mlpackage/Manifest.json")
    weights.write_text("changed")
    with running(**converting) as server:
        server.wait_for("ready")
        assert "built again" in server.text
    assert weights.read_text() == "{}"


def test_a_given_bundle_is_never_built_again(bundle: Path) -> None:
    (bundle / "tokenizer.json").write_text("{}")
    with running(GENA_BUNDLE=str(bundle)) as server:
        health = server.wait_for("failed")
        assert health["error"]["code"] == "bundle.invalid"
        assert "tokenizer.json" in health["message"]


def test_kill_of_the_model_under_load(lasting: Server) -> None:
    restarts = lasting.health()["restarts"] + 1
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(lasting.predict, 1, stand_in.SLOW, 2, repeat=2) for _ in range(8)]
        wait_for_flows(lasting, 8)
        (model,) = lasting.children()
        os.kill(model, signal.SIGKILL)
        codes = sorted(answer.result().status_code for answer in answers)
    # One was being computed; the others waited for the next process and got their answers.
    assert codes == [200] * 7 + [503]
    lasting.wait_for("ready", restarts=restarts)
    assert lasting.predict(1, 9, 2).status_code == 200
    assert f"gena_model_restarts_total {restarts}.0" in lasting.http.get("/metrics").text
    (successor,) = lasting.children()
    assert successor != model


def test_the_request_that_kills_the_model_is_told(lasting: Server) -> None:
    restarts = lasting.health()["restarts"] + 1
    killed = lasting.predict(1, stand_in.KILLED, 2)
    assert killed.status_code == 503
    assert killed.headers["content-type"] == "application/problem+json"
    assert killed.json()["code"] == "model.crashed"
    assert "SIGKILL" in killed.json()["detail"]
    lasting.wait_for("ready", restarts=restarts)


def test_a_stopped_model_is_a_hang(bundle: Path) -> None:
    with running(GENA_BUNDLE=str(bundle), GENA_PREDICT_TIMEOUT_SECONDS="0.5") as server:
        server.wait_for("ready")
        os.kill(*server.children(), signal.SIGSTOP)
        hung = server.predict(1, 9, 2)
        assert (hung.status_code, hung.json()["code"]) == (503, "model.crashed")
        server.wait_for("ready", restarts=1)
        assert server.predict(1, 9, 2).status_code == 200


def test_a_model_that_never_loads_is_a_failure_in_the_end(bundle: Path) -> None:
    bundle.with_name("load_faults").write_text("die\n" * 5)
    with running(GENA_BUNDLE=str(bundle)) as server:
        server.wait_for("loading")
        health = server.wait_for("failed")
        assert health["error"]["code"] == "model.crashing"
        server.http.post("/health/retry")
        server.wait_for("ready")


def test_dna_is_tokenized_before_the_model_is_loaded_and_after_it_failed(bundle: Path) -> None:
    bundle.with_name("load_faults").write_text("steps\nrefuse\n")
    dna = {"content": "ACGT", "headers": {"Content-Type": "text/plain"}}
    with running(GENA_BUNDLE=str(bundle)) as server:
        fingerprint = server.wait_for("loading", model="stand-in")["fingerprint"]
        answered = server.http.post("/tokenize", **dna)
        assert server.http.post("/embeddings", **dna).json()["code"] == "model.not_ready"
        assert (answered.status_code, answered.json()["input_ids"]) == (200, [1, 5, 6, 7, 8, 2])
        assert answered.headers["X-GENA-Fingerprint"] == fingerprint
        server.wait_for("ready")
        os.kill(*server.children(), signal.SIGKILL)
        server.wait_for("failed")
        assert server.http.post("/tokenize", **dna).json() == answered.json()
        assert server.http.post("/embeddings", **dna).json()["code"] == "model.failed"


def test_a_client_that_leaves_takes_its_windows_along(lasting: Server) -> None:
    with socket.create_connection(("127.0.0.1", lasting.port)) as client:
        client.sendall(
            f"POST /predict?ids=1,{stand_in.SLOW},2&repeat=1000 HTTP/1.1\r\n"
            "Host: localhost\r\nContent-Length: 0\r\n\r\n".encode()
        )
        wait_for_flows(lasting, 1)
    wait_for_flows(lasting, 0)
    assert '"status": 499' in lasting.text


def test_health_answers_promptly_under_load(lasting: Server) -> None:
    with ThreadPoolExecutor(8) as clients:
        load = [clients.submit(lasting.predict, 1, stand_in.SLOW, 2, repeat=2) for _ in range(8)]
        took = []
        while not all(each.done() for each in load):
            began = time.perf_counter()
            assert lasting.http.get("/health").status_code == 200
            took.append(time.perf_counter() - began)
    # A busy machine has pauses of its own, but none as long as the queue.
    assert median(took) < stand_in.SLOW_SECONDS / 2
    assert max(took) < stand_in.SLOW_SECONDS * len(load)


def test_a_full_queue_refuses_at_once(bundle: Path) -> None:
    with running(GENA_BUNDLE=str(bundle), GENA_QUEUE_TOKENS="1024") as server:
        server.wait_for("ready")
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda _: server.predict(1, stand_in.SLOW, 2), range(8)))
    codes = [answer.status_code for answer in answers]
    assert sorted(set(codes)) == [200, 429]
    assert codes.count(200) >= 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "queue.full"
    assert int(refused.headers["Retry-After"]) >= 1


def test_a_deadline_is_kept(bundle: Path) -> None:
    with running(GENA_BUNDLE=str(bundle), GENA_DEADLINE_SECONDS="0.1") as server:
        server.wait_for("ready")
        late = server.predict(1, stand_in.SLOW, 2)
        assert (late.status_code, late.json()["code"]) == (504, "deadline.exceeded")


def test_sigterm_finishes_accepted_work_and_takes_no_more(server: Server) -> None:
    answers: list[httpx.Response] = []
    work = threading.Thread(
        target=lambda: answers.append(server.predict(1, stand_in.SLOW, 2, repeat=5))
    )
    # A request whose body is not all there when the end begins.
    with (
        socket.create_connection(("127.0.0.1", server.port)) as slow,
        slow.makefile("rb") as answer,
    ):
        slow.sendall(b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nAC")
        work.start()
        wait_for_flows(server, 1)
        children = server.children()
        server.process.send_signal(signal.SIGTERM)
        slow.sendall(b"GT")
        assert answer.read().endswith(b'{"bytes":4}')
    work.join(30)
    assert [answer.status_code for answer in answers] == [200]
    assert server.wait() == 0
    assert not any(is_running(pid) for pid in children)
    assert not accepts(server)


def test_work_that_outlasts_the_grace_period_is_told(bundle: Path) -> None:
    with running(GENA_BUNDLE=str(bundle), GENA_GRACE_SECONDS="0.3") as server:
        server.wait_for("ready")
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(server.predict, 1, stand_in.SLOW, 2, repeat=1000)
            wait_for_flows(server, 1)
            assert server.stop() == 0
            stopped = answer.result()
    assert (stopped.status_code, stopped.json()["code"]) == (503, "server.stopping")


def accepts(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except ConnectionError:  # refused, or reset while the socket was closed
        return False
    return True


def test_a_second_signal_kills(server: Server) -> None:
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(server.predict, 1, stand_in.SLOW, 2, repeat=1000)
        wait_for_flows(server, 1)
        (model,) = server.children()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server), "the first signal has arrived")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        with pytest.raises(httpx.HTTPError):
            answer.result()
    until(lambda: not is_running(model), "the model ended with its server")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_in_the_middle_of_a_conversion(
    converting: dict[str, str], tmp_path: Path, end: signal.Signals
) -> None:
    (tmp_path / "convert_orders").write_text("wait")
    with running(**converting) as server:
        server.wait_for("converting", progress={"stage": "convert", "fraction": 0.5})
        (converter,) = server.children()
        assert (tmp_path / "building").exists()
        server.process.send_signal(end)
        code = server.wait()
    if end is signal.SIGKILL:
        assert code == -end
        until(lambda: not is_running(converter), "the converter ended with its server")
    else:
        assert code == 0
        assert not is_running(converter)
    assert not (tmp_path / "building").exists()


def test_the_server_never_loads_what_it_only_hands_on(bundle: Path) -> None:
    with running(GENA_BUNDLE=str(bundle), **NOTE_IMPORTS) as server:
        server.wait_for("ready")
        assert server.predict(1, 9, 2).status_code == 200
        assert "numpy" in server.imported()
        assert not {"torch", "coremltools", "transformers", "sklearn"} & server.imported()


def test_the_log_has_sizes_and_times_and_no_dna(server: Server) -> None:
    dna = "ACGTTGCAAC" * 10
    server.http.post("/swallow", params={"sequence": dna}, content=dna)
    server.http.get(f"/{dna}")
    assert server.http.get("/fault").json()["code"] == "internal"
    server.predict(1, stand_in.RAISES, 2)
    server.stop()
    lines = [json.loads(line) for line in server.log]
    swallowed = next(line for line in lines if line.get("route") == "/swallow")
    assert (swallowed["bytes_in"], swallowed["status"]) == (100, 200)
    assert swallowed["ms"] > 0
    assert any(line.get("status") == 404 for line in lines)
    assert any("RuntimeError" in line.get("exception", "") for line in lines)
    assert "ACGTTGCAACGTTGCA" not in server.text
    assert "ACGTACGTACGTACGT" not in server.text
