"""A model that reads 1,024 tokens at a time: every limit is its own, whatever is asked."""

import io
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow as pa
import pytest

from app.answers.json_writer import JsonWriter
from app.answers.npy_writer import NpyWriter
from app.answers.writer import AnswerPlan
from app.inference.prepare import prepare
from app.requests.limits import Limits
from app.requests.options import Choices
from app.requests.submitted import Submitted
from converter.tokenizer import DnaTokenizer
from tests.support.dna import close, dna, merged, windows_by_hand
from tests.support.live_service import HIDDEN, Service, Truth, full_queue, running

WINDOW, OWN = 1024, 1022
# More tokens than 510, fewer than 1,022; and several windows of either size.
ONE, SEVERAL = dna(1_600, seed=1), dna(6_000, seed=2)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth.make(tmp_path_factory.mktemp("longer"), WINDOW)


@pytest.fixture(scope="module")
def service(truth: Truth) -> Iterator[Service]:
    with running(truth) as service:
        yield service


def ok(response: httpx.Response) -> httpx.Response:
    assert response.status_code == 200, response.text
    return response


def test_one_window_holds_what_512_do_not(service: Service, truth: Truth) -> None:
    expected = truth.rows(truth.ids(ONE))
    assert len(expected) > 512
    answer = ok(service.post("/features", json={"sequence": ONE})).json()
    assert answer["shape"] == [1, WINDOW, HIDDEN] == list(np.shape(answer["features"]))
    assert answer["n_tokens"] == len(expected)
    content = ok(service.post("/features?format=npy", json={"sequence": ONE})).content
    rows = np.load(io.BytesIO(content))
    assert rows.shape == (1, WINDOW, HIDDEN)
    close(rows[0, : len(expected)], expected)
    assert not rows[0, len(expected) :].any()


def test_npz_has_ids_and_offsets_of_whole_windows(service: Service, truth: Truth) -> None:
    body = {"sequence": SEVERAL, "overflow": "window", "stride": 100}
    content = ok(service.post("/features?format=npz", json=body)).content
    arrays = np.load(io.BytesIO(content))
    ids, offsets = truth.ids(SEVERAL), truth.offsets(SEVERAL)
    windows = windows_by_hand(len(ids), 100, OWN)
    assert len(windows) == 3
    assert arrays["features"].shape == (3, WINDOW, HIDDEN)
    assert arrays["input_ids"].shape == (3, WINDOW)
    assert arrays["offsets"].shape == (3, WINDOW, 2)
    assert arrays["windows"][:, 2:4].tolist() == [list(each) for each in windows]
    for number, (start, end) in enumerate(windows):
        n = end - start + 2
        assert arrays["input_ids"][number, :n].tolist() == [1, *ids[start:end], 2]
        assert set(arrays["input_ids"][number, n:]) <= {3}
        assert arrays["offsets"][number, 1 : n - 1].tolist() == list(map(list, offsets[start:end]))
        close(arrays["features"][number, :n], truth.rows(ids[start:end]))


@pytest.mark.parametrize("format_", ["json", "tsv", "arrow"])
def test_vectors_of_several_windows_count_each_token_once(
    service: Service, truth: Truth, format_: str
) -> None:
    rows, _ = merged(truth, SEVERAL, 100)
    body = {"sequence": SEVERAL, "overflow": "window", "stride": 100}
    answer = ok(service.post(f"/embeddings?format={format_}", json=body))
    assert answer.headers["x-gena-windows"] == "3"
    close(_vector(answer, format_), rows.mean(axis=0))


def _vector(answer: httpx.Response, format_: str) -> list[float]:
    if format_ == "json":
        vector: list[float] = answer.json()["records"][0]["features"]
        return vector
    if format_ == "arrow":
        with pa.ipc.open_stream(answer.content) as stream:
            (vector,) = stream.read_all().column("features").to_pylist()
        return vector
    return [float(cell) for cell in answer.text.splitlines()[1].split("\t")[-HIDDEN:]]


def test_the_first_token_too_many_is_refused_cut_off_or_in_a_second_window(
    service: Service,
) -> None:
    fits = ok(service.post("/embeddings", json={"sequence": "N" * OWN})).json()
    assert fits["records"][0]["n_tokens"] == WINDOW
    too_long = {"sequence": "N" * (OWN + 1)}
    refused = service.post("/features", json=too_long)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "sequence.too_long")
    assert (problem["count"], problem["limit"]) == (WINDOW + 1, WINDOW)
    assert "1025 tokens, [CLS] and [SEP] included; a window holds 1024." in problem["detail"]
    cut = ok(service.post("/features", json={**too_long, "overflow": "truncate"})).json()
    assert cut["truncated"] == {"n_tokens": 1025, "kept": 1024, "n_bases": 1023, "bases": [0, 1022]}
    assert cut["n_tokens"] == WINDOW
    several = ok(service.post("/features", json={**too_long, "overflow": "window"})).json()
    assert [each["tokens"] for each in several["windows"]] == [[0, OWN], [OWN, OWN + 1]]


@pytest.mark.parametrize("path", ["/features", "/embeddings", "/v1/embeddings"])
def test_an_overlap_leaves_a_token_of_each_window(service: Service, path: str) -> None:
    body = {
        "input" if path.startswith("/v1") else "sequence": "N" * (OWN + 2),
        "overflow": "window",
    }
    body |= {"model": "model"} if path.startswith("/v1") else {}
    ok(service.post(path, json={**body, "stride": OWN - 1}))
    refused = service.post(path, json={**body, "stride": OWN})
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "request.invalid")
    (told,) = problem["problems"]
    assert told["where"] == "stride"
    assert "less than or equal to 1021" in told["message"]
    assert problem["detail"].startswith("stride: it has to be less than or equal to 1021")


@pytest.mark.parametrize("stride", [OWN, 10**8, 10**30])
def test_no_overlap_of_a_query_or_a_form_is_larger(service: Service, stride: int) -> None:
    query = {"overflow": "window", "stride": stride}
    asked = [
        service.post("/features", params=query, content=b">a\nACGT\n"),
        service.post(
            "/features",
            data={"overflow": "window", "stride": str(stride)},
            files={"file": ("a.fa", b">a\nACGT\n")},
        ),
    ]
    for response in asked:
        problem = response.json()
        assert (response.status_code, problem["code"]) == (422, "request.invalid")
        assert problem["problems"][0]["where"] == "stride"


def test_the_answer_of_one_window_is_computed_before_it_begins(truth: Truth) -> None:
    tokenizer = DnaTokenizer(truth.tokenizer_file, model_max_length=WINDOW)
    prepared = prepare(
        [Submitted("1", "N" * OWN)],
        tokenizer,
        Choices(),
        Limits(records=1, record_bases=OWN, tokens=WINDOW, json_bytes=1),
        single=True,
        stop=threading.Event(),
    )
    # As wide as models of this kind are.
    plan = AnswerPlan("lab/m", "f" * 16, 1024, tokenizer, prepared)
    assert all(writer(plan).is_small for writer in (JsonWriter, NpyWriter))
    prepared.close()


def test_tokens_are_told_with_the_limit_of_the_model(service: Service) -> None:
    assert ok(service.post("/tokenize", json={"sequence": "ACGT"})).json()["limit"] == WINDOW


def test_a_request_holds_room_for_a_window_of_the_model(truth: Truth) -> None:
    with running(truth, queue_tokens=2 * WINDOW - 1, cache_bytes=0) as service, full_queue(service):
        refused = service.post("/features", json={"sequence": "ACGT"})
        assert (refused.status_code, refused.json()["code"]) == (429, "queue.full")
