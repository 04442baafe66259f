"""Big answers on real sockets: whole or visibly broken, in bounded memory, dropped with clients."""

import asyncio
import gzip
import io
import json
import threading
import time
import tracemalloc

import httpx
import numpy as np
import pytest

from app.model.state import ModelUnavailableError, State
from tests.support.dna import dna
from tests.support.live_service import HIDDEN, full_queue, running
from tests.support.scenarios import until

MANY = "".join(f">r{n}\n{dna(40, seed=n)}\n" for n in range(300)).encode()


def test_many_records_arrive_while_later_ones_are_computed(uncached):
    with uncached.client.stream("POST", "/embeddings?format=tsv", content=MANY) as response:
        lines = response.iter_lines()
        next(lines)
        uncached.model.gate.clear()
        first = next(lines)
        computed = len(uncached.model.seen)
        uncached.model.gate.set()
        rest = list(lines)

    assert first.startswith("r0\t")
    assert computed < 300
    assert [line.split("\t")[0] for line in rest] == [f"r{n}" for n in range(1, 300)]


@pytest.mark.parametrize("format_", ["json", "npy", "npz", "tsv", "arrow"])
def test_a_failure_in_mid_stream_cuts_the_connection(uncached, format_):
    uncached.model.fail_after = 150

    with uncached.client.stream("POST", f"/embeddings?format={format_}", content=MANY) as response:
        assert response.status_code == 200
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            response.read()


def test_an_answer_that_is_cut_by_the_end_is_logged_with_the_reason(uncached, caplog, monkeypatch):
    predict = uncached.model.predict

    async def until_the_end(*windows):
        if len(uncached.model.seen) > 150:
            raise ModelUnavailableError(State("stopping", "The service is shutting down."), 0.0)
        return await predict(*windows)

    monkeypatch.setattr(uncached.model, "predict", until_the_end)
    with (
        uncached.client.stream("POST", "/embeddings?format=tsv", content=MANY) as response,
        pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
    ):
        response.read()
    (cut,) = [each for each in caplog.records if "cut off" in each.message]
    assert "server.stopping: No new work is taken" in cut.message
    assert cut.exc_info is None


def test_a_failure_at_the_first_prediction_is_a_problem(uncached):
    uncached.model.fail_after = 0

    response = uncached.post("/embeddings", content=MANY)

    assert response.status_code == 500
    assert response.json()["code"] == "internal"


def test_a_bad_record_at_the_end_of_a_file_is_found_before_anything_is_computed(uncached):
    response = uncached.post("/embeddings", content=MANY + b">last\nACGX\n")

    found = response.json()
    assert response.status_code == 422
    assert (found["code"], found["record"], found["position"]) == (
        "sequence.invalid_letter",
        "last",
        4,
    )
    assert not uncached.model.seen


def test_npy_says_its_length_before_it_is_computed(uncached):
    with uncached.client.stream("POST", "/embeddings?format=npy", content=MANY) as response:
        content = response.read()

    assert int(response.headers["content-length"]) == len(content)
    assert np.load(io.BytesIO(content)).shape == (300, HIDDEN)


def test_a_client_that_leaves_takes_its_work_along(uncached):
    with uncached.client.stream("POST", "/embeddings?format=tsv", content=MANY) as response:
        next(response.iter_lines())
        uncached.model.gate.clear()

    until(lambda: uncached.lifecycle.scheduler.open_flows == 0, "its flow is closed")
    uncached.model.gate.set()
    until(lambda: uncached.lifecycle.scheduler.queued_windows == 0, "its windows left the queue")
    assert len(uncached.model.seen) < 300
    assert uncached.post("/features", json={"sequence": "ACGT"}).status_code == 200


def test_a_client_that_leaves_before_its_answer_takes_its_work_along(uncached):
    uncached.model.gate.clear()

    with pytest.raises(httpx.ReadTimeout):
        uncached.client.post("/embeddings", content=MANY, timeout=0.5)

    until(lambda: uncached.lifecycle.scheduler.open_flows == 0, "its flow is closed")
    assert len(uncached.model.seen) <= 2


def test_the_deadline_ends_a_request_that_waits(truth):
    with running(truth, deadline_seconds=0.5) as service:
        service.model.gate.clear()

        response = service.post("/features", json={"sequence": "ACGT"})

        assert (response.status_code, response.json()["code"]) == (504, "deadline.exceeded")
        assert response.json()["limit"] == 0.5
        assert service.lifecycle.scheduler.open_flows == 0


def test_the_deadline_cuts_off_an_answer_that_stands_still(truth, caplog):
    with running(truth, deadline_seconds=0.5, cache_bytes=0) as service:
        with service.client.stream("POST", "/embeddings?format=tsv", content=MANY) as response:
            lines = response.iter_lines()
            next(lines)
            service.model.gate.clear()
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                list(lines)

        assert service.lifecycle.scheduler.open_flows == 0
        counts = service.client.get("/metrics").text
    assert 'gena_answers_cut_off_total{code="deadline.exceeded"} 1.0' in counts
    (cut,) = [each for each in caplog.records if "cut off" in each.message]
    assert "deadline.exceeded: The model answered nothing for 0.5 s." in cut.message


def test_an_answer_that_advances_takes_longer_than_the_deadline(truth, monkeypatch):
    with running(truth, deadline_seconds=0.5, cache_bytes=0) as service:
        predict = service.model.predict

        async def slowly(*windows):
            await asyncio.sleep(0.008)
            return await predict(*windows)

        monkeypatch.setattr(service.model, "predict", slowly)
        began = time.monotonic()
        answer = service.post("/embeddings?format=tsv", content=MANY)

        assert time.monotonic() - began > 1
        assert answer.text.count("\n") == 301


def test_a_full_queue_is_429_with_retry_after(truth):
    with running(truth, queue_tokens=512, cache_bytes=0) as service, full_queue(service):
        response = service.post("/features", json={"sequence": "ACGT"})

    assert (response.status_code, response.json()["code"]) == (429, "queue.full")
    assert int(response.headers["retry-after"]) >= 1


def test_one_sequence_does_not_wait_for_an_upload(uncached):
    done = threading.Event()

    def upload() -> None:
        httpx.post(uncached.url + "/embeddings", content=MANY, timeout=60)
        done.set()

    uncached.model.gate.clear()
    thread = threading.Thread(target=upload)
    thread.start()
    until(lambda: uncached.lifecycle.scheduler.queued_windows > 0, "the upload waits")
    single: list[int] = []

    def one() -> None:
        response = httpx.post(uncached.url + "/features", json={"sequence": "GATTACA"})
        assert response.status_code == 200
        single.append(len(uncached.model.seen))

    second = threading.Thread(target=one)
    second.start()
    until(lambda: uncached.lifecycle.scheduler.open_flows == 2, "both requests wait")
    uncached.model.gate.set()
    second.join(60)
    thread.join(60)

    assert done.is_set()
    # The upload has a window in every second turn; some go on while the answer travels.
    assert single[0] < 100


def test_json_of_many_records_is_one_document(uncached):
    answer = uncached.post("/embeddings", content=MANY + b">bad\nX\n", params={"on_error": "skip"})

    body = answer.json()
    assert len(body["records"]) == 300
    assert [skipped["id"] for skipped in body["skipped"]] == ["bad"]
    assert "NaN" not in answer.text


def test_a_long_record_is_answered_in_bounded_memory(truth):
    # About 180000 tokens, as many as a megabase has with the published tokenizer.
    sequence = dna(400_000, seed=4)
    with running(truth, cache_bytes=0) as service:
        service.post("/features", json={"sequence": "ACGT"})
        body = gzip.compress(b">chromosome\n" + sequence.encode())
        tracemalloc.start()
        with service.client.stream(
            "POST",
            "/features?overflow=window&format=npy",
            content=body,
            timeout=300,
        ) as response:
            n_bytes = sum(len(chunk) for chunk in response.iter_raw())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    n_windows = int(response.headers["x-gena-windows"])
    assert n_bytes == 128 + n_windows * 512 * HIDDEN * 4
    assert n_windows > 300
    # The text, its tokens and a few windows; the tokenizer's own lists are the most of it.
    assert peak < n_bytes


def test_tokens_of_a_long_record_are_streamed_as_valid_json(service):
    sequence = dna(400_000, seed=5)

    response = service.post("/tokenize", json={"sequence": sequence})

    answer = json.loads(response.text)
    assert answer["n_bases"] == 400_000
    assert answer["n_tokens"] == len(answer["input_ids"]) == len(answer["tokens"])
    assert answer["offsets"][-2][1] == 400_000
    assert "content-length" not in response.headers
