"""A vector a window, in every format, and ids beside npy."""

import io
import json
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.support.dna import close, dna, other_strand, windows_by_hand
from tests.support.live_service import HIDDEN, Service, Truth

LONG, SHORT = dna(6000, seed=1), dna(60, seed=2)
BODY = {
    "sequences": [{"id": "long", "sequence": LONG}, {"id": "short", "sequence": SHORT}],
    "overflow": "window",
    "stride": 40,
    "vectors": "window",
}
POOL = {
    "mean": lambda rows: rows[1:-1].mean(0),
    "max": lambda rows: rows[1:-1].max(0),
    "cls": lambda rows: rows[0],
}


def expected(truth: Truth, pooling: str = "mean") -> list[tuple[str, int, int, int, np.ndarray]]:
    """Id, window, first and end base, vector: from the library and the reference network."""
    found = []
    for name, sequence in (("long", LONG), ("short", SHORT)):
        ids, offsets = truth.ids(sequence), truth.offsets(sequence)
        for number, (first, end) in enumerate(windows_by_hand(len(ids), 40)):
            vector = POOL[pooling](truth.rows(ids[first:end]))
            found.append((name, number, offsets[first][0], offsets[end - 1][1], vector))
    return found


@pytest.mark.parametrize("pooling", POOL)
def test_json_has_the_bases_beside_the_vectors(
    service: Service, truth: Truth, pooling: str
) -> None:
    answer = service.post("/embeddings", json={**BODY, "pooling": pooling}).json()

    told = [
        (record["id"], window["window"], *window["bases"], vector)
        for record in answer["records"]
        for window, vector in zip(record["windows"], record["features"], strict=True)
    ]
    wanted = expected(truth, pooling)
    assert [row[:4] for row in told] == [row[:4] for row in wanted]
    close([row[4] for row in told], [row[4] for row in wanted])
    for record in answer["records"]:
        assert record["shape"] == list(np.array(record["features"]).shape)


def test_files_have_the_same_rows(service: Service, truth: Truth) -> None:
    wanted = expected(truth)
    vectors = np.array([row[4] for row in wanted])

    table = service.post("/embeddings?format=tsv", json=BODY).text.splitlines()
    head, *rows = (line.split("\t") for line in table)
    assert head[:5] == ["id", "window", "first_base", "end_base", "f0"]
    assert [(row[0], *map(int, row[1:4])) for row in rows] == [row[:4] for row in wanted]
    close(np.array([row[4:] for row in rows], float), vectors)

    stream = service.post("/embeddings?format=arrow", json=BODY).content
    arrow = pa.ipc.open_stream(io.BytesIO(stream)).read_all().to_pydict()
    columns = ("id", "window", "first_base", "end_base")
    assert list(zip(*(arrow[name] for name in columns), strict=True)) == [row[:4] for row in wanted]
    close(arrow["features"], vectors)

    packed = np.load(io.BytesIO(service.post("/embeddings?format=npz", json=BODY).content))
    close(packed["features"], vectors)
    assert packed["windows"][:, 4:].tolist() == [list(row[2:4]) for row in wanted]
    assert packed["n_tokens"].tolist() == arrow["n_tokens"]

    plain = np.load(io.BytesIO(service.post("/embeddings?format=npy", json=BODY).content))
    assert plain.shape == (len(wanted), HIDDEN)
    close(plain, vectors)


def test_a_single_sequence_and_the_other_strand(service: Service, truth: Truth) -> None:
    body = {"sequence": LONG, "overflow": "window", "pooling": "mean", "vectors": "window"}
    answer = service.post("/features", json={**body, "strand": "reverse"}).json()

    ids = truth.ids(other_strand(LONG))
    windows = windows_by_hand(len(ids), 0)
    assert answer["shape"] == [len(windows), HIDDEN]
    close(answer["features"][1], truth.rows(ids[slice(*windows[1])])[1:-1].mean(0))


def test_vectors_of_length_1(service: Service) -> None:
    answer = service.post("/embeddings?format=npy", json={**BODY, "normalize": True})
    close(np.linalg.norm(np.load(io.BytesIO(answer.content)), axis=1), 1)


@pytest.mark.parametrize(
    ("options", "fields"),
    [({"strand": "both"}, ["vectors", "strand"]), ({"pooling": "none"}, ["vectors", "pooling"])],
)
def test_what_does_not_go_together(service: Service, options: dict, fields: list[str]) -> None:
    body = {"sequence": "ACGT", "pooling": "mean", "vectors": "window", **options}
    answer = service.post("/features", json=body)
    assert (answer.status_code, answer.json()["fields"]) == (422, fields)


def test_ids_travel_beside_npy(service: Service) -> None:
    ids = ["gene 1", "a,b", "50%", "größe"]
    records = [{"id": each, "sequence": "ACGT"} for each in ids]

    answer = service.post("/embeddings?format=npy&ids=header", json={"sequences": records})

    assert [unquote(each) for each in answer.headers["x-gena-ids"].split(",")] == ids
    assert len(np.load(io.BytesIO(answer.content))) == len(ids)


def test_more_ids_than_a_header_holds_are_told_before_anything_is_computed(
    uncached: Service,
) -> None:
    records = [{"id": f"{n:0200}", "sequence": "ACGT"} for n in range(100)]
    body = json.dumps({"sequences": records, "ids": "header"}).encode()

    answer = uncached.post("/embeddings?format=npy", content=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "options.conflict")
    assert "npz" in answer.json()["detail"]
    assert not uncached.model.seen
