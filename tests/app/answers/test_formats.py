"""Arrays and tables, read back by the libraries that people read them with."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest

from app.answers.npy_writer import npy_header
from tests.support.dna import close, dna, merged, other_strand, windows_by_hand
from tests.support.live_service import HIDDEN

SEQUENCES = {"a": dna(300, seed=1), "b|x y": dna(2400, seed=2), "c": "N" * 12}
SEVERAL = {"sequences": [{"id": i, "sequence": s} for i, s in SEQUENCES.items()]}


def get(service, path, format_, body, **params):
    response = service.post(path, params={"format": format_, **params}, json=body)
    assert response.status_code == 200, response.text
    return response


def npy(service, path, body, **params) -> np.ndarray:
    return np.load(io.BytesIO(get(service, path, "npy", body, **params).content))


def npz(service, path, body, **params):
    content = get(service, path, "npz", body, **params).content
    return np.load(io.BytesIO(content), allow_pickle=False)


def test_npy_of_one_sequence(service, truth):
    sequence = SEQUENCES["a"]
    expected = truth.rows(truth.ids(sequence))

    response = get(service, "/features", "npy", {"sequence": sequence})
    array = np.load(io.BytesIO(response.content))

    assert (array.shape, array.dtype) == ((1, 512, HIDDEN), np.float32)
    assert array.flags.c_contiguous
    close(array[0, : len(expected)], expected)
    assert not array[0, len(expected) :].any()
    assert response.headers["content-type"] == "application/x-npy"
    assert response.headers["x-gena-model"] == truth.manifest.model
    assert response.headers["x-gena-fingerprint"] == truth.manifest.fingerprint
    assert response.headers["x-gena-tokens"] == str(len(expected))


@pytest.mark.parametrize(
    ("path", "body", "params", "shape"),
    [
        ("/features", {"sequence": SEQUENCES["a"]}, {"pooling": "mean"}, (HIDDEN,)),
        ("/features", {"sequence": SEQUENCES["a"]}, {"resolution": "base"}, (300, HIDDEN)),
        ("/features", {"sequence": SEQUENCES["b|x y"]}, {"overflow": "window"}, (3, 512, HIDDEN)),
        ("/features", SEVERAL, {"overflow": "window"}, (5, 512, HIDDEN)),
        ("/features", SEVERAL, {"overflow": "window", "pooling": "max"}, (3, HIDDEN)),
        ("/features", SEVERAL, {"overflow": "window", "resolution": "base"}, (2712, HIDDEN)),
        ("/embeddings", {"sequence": SEQUENCES["a"]}, {}, (1, HIDDEN)),
        ("/embeddings", SEVERAL, {"overflow": "truncate"}, (3, HIDDEN)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_shapes_are_the_same_in_npy_npz_and_json(service, path, body, params, shape, dtype):
    plain = npy(service, path, body, dtype=dtype, **params)
    zipped = npz(service, path, body, dtype=dtype, **params)["features"]
    text = get(service, path, "json", body, dtype=dtype, **params).json()

    assert plain.shape == zipped.shape == shape
    assert plain.dtype == zipped.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(plain, zipped)
    parts = [np.array(r["features"], dtype) for r in text.get("records", [text])]
    assert b"".join(part.tobytes() for part in parts) == plain.tobytes()


def test_npz_says_where_every_row_comes_from(service, truth):
    arrays = npz(service, "/features", SEVERAL, overflow="window", stride=40)

    expected_windows, expected_ids, expected_offsets = [], [], []
    for number, sequence in enumerate(SEQUENCES.values()):
        ids, offsets = truth.ids(sequence), truth.offsets(sequence)
        for index, (start, end) in enumerate(windows_by_hand(len(ids), 40)):
            bases = offsets[start][0], offsets[end - 1][1]
            expected_windows.append([number, index, start, end, *bases])
            filler = 510 - (end - start)
            expected_ids.append([1, *ids[start:end], 2, *[3] * filler])
            expected_offsets.append([(0, 0), *offsets[start:end], *[(0, 0)] * (filler + 1)])
    assert arrays["windows"].tolist() == expected_windows
    assert arrays["windows"].dtype == np.int64
    assert arrays["input_ids"].tolist() == expected_ids
    assert arrays["input_ids"].dtype == np.int32
    np.testing.assert_array_equal(arrays["offsets"], expected_offsets)
    assert arrays["offsets"].dtype == np.int64
    assert arrays["n_tokens"].tolist() == [w[3] - w[2] + 2 for w in expected_windows]
    assert arrays["record_ids"].tolist() == list(SEQUENCES)
    assert arrays["n_bases"].tolist() == [len(s) for s in SEQUENCES.values()]
    assert str(arrays["model"]) == truth.manifest.model
    assert str(arrays["fingerprint"]) == truth.manifest.fingerprint
    for features, ids in zip(arrays["features"], expected_ids, strict=True):
        n = 512 - ids.count(3)
        close(features[:n], truth.rows(ids[1 : n - 1]))


def test_npz_of_two_strands_lists_the_windows_of_both(service, truth):
    sequence = SEQUENCES["b|x y"]
    arrays = npz(service, "/embeddings", {"sequence": sequence}, strand="both", overflow="window")

    turned = other_strand(sequence)
    n_forward, n_reverse = (len(windows_by_hand(len(truth.ids(s)), 0)) for s in (sequence, turned))
    assert arrays["strand"].tolist() == [1] * n_forward + [-1] * n_reverse
    first = truth.offsets(turned)[0]
    assert arrays["offsets"][n_forward, 1].tolist() == [2400 - first[1], 2400]
    assert arrays["windows"][-1, 4] == 0


def test_npz_lists_what_was_skipped(service):
    body = {"sequences": ["ACGT", "AXT", ""]}

    arrays = npz(service, "/embeddings", body, on_error="skip")

    assert arrays["record_ids"].tolist() == ["1"]
    assert arrays["skipped_ids"].tolist() == ["2", "3"]
    assert arrays["skipped_codes"].tolist() == ["sequence.invalid_letter", "sequence.empty"]


def test_tsv_has_a_header_and_ids_first(service, truth):
    response = get(service, "/embeddings", "tsv", SEVERAL, overflow="window")

    header, *rows = csv.reader(io.StringIO(response.text), delimiter="\t")
    assert response.headers["content-type"].startswith("text/tab-separated-values")
    assert header == ["id", *[f"f{i}" for i in range(HIDDEN)]]
    assert [row[0] for row in rows] == list(SEQUENCES)
    for row, sequence in zip(rows, SEQUENCES.values(), strict=True):
        close([float(cell) for cell in row[1:]], merged(truth, sequence, 0)[0].mean(0))


@pytest.mark.parametrize("path", ["/embeddings", "/features?pooling=mean"])
@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", " =1", "\uff1d1", '"=1', "'a"]
)
def test_what_a_spreadsheet_computes_is_no_id_of_a_table(service, path, name):
    body = {"sequences": ["ACGT", {"id": name, "sequence": "AC"}], "format": "tsv"}

    response = service.post(path, json=body)
    assert service.model.seen == []
    others = [service.post(path, json=body | {"format": format_}) for format_ in ("json", "npz")]

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "record.invalid_id")
    assert problem["record_number"] == 2
    assert name.lstrip()[0] in problem["detail"]
    assert "npz, arrow or json" in problem["detail"]
    assert [other.status_code for other in others] == [200, 200]


def test_such_a_record_can_be_left_out_of_a_table(service):
    content = b">a\nACGT\n>=1+1\nAC\n>b=1-2\nGG\n"

    response = service.post("/embeddings?format=tsv&on_error=skip", content=content)

    _, *rows = csv.reader(io.StringIO(response.text), delimiter="\t")
    assert [row[0] for row in rows] == ["a", "b=1-2"]
    assert response.headers["x-gena-skipped"] == "1"


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_arrow_is_a_table_with_one_row_a_record(service, truth, dtype):
    body = {"sequences": [dna(20, seed=n) for n in range(150)] + ["X"]}

    response = get(service, "/embeddings", "arrow", body, dtype=dtype, on_error="skip")
    table = pa.ipc.open_stream(response.content).read_all()

    assert table.num_rows == 150
    assert table.column("id").to_pylist() == [str(n) for n in range(1, 151)]
    assert table.schema.field("features").type == pa.list_(getattr(pa, dtype)(), HIDDEN)
    assert table.schema.metadata[b"fingerprint"] == truth.manifest.fingerprint.encode()
    assert b"sequence.invalid_letter" in table.schema.metadata[b"skipped"]
    plain = npy(service, "/embeddings", body, dtype=dtype, on_error="skip")
    values = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(values.reshape(150, HIDDEN), plain)
    ids = truth.ids(body["sequences"][7])
    assert table.column("n_tokens")[7].as_py() == len(ids) + 2


def test_npy_headers_are_those_that_numpy_writes():
    for array in (np.zeros((3, 512, 768), np.float32), np.zeros((5,), np.float16), np.array("x")):
        file = io.BytesIO()
        np.save(file, array)

        assert file.getvalue().startswith(npy_header(array.shape, array.dtype))


@pytest.mark.parametrize("format_", ["npy", "npz"])
def test_doubles_are_the_same_numbers(service, format_):
    """For readers that take every array for doubles."""
    body = {"sequences": ["ACGTTGCA", "GATTACA"], "pooling": "mean"}
    read = npy if format_ == "npy" else lambda *given, **params: npz(*given, **params)["features"]

    single = read(service, "/features", body)
    double = read(service, "/features", body, dtype="float64")

    assert double.dtype == np.float64
    np.testing.assert_array_equal(double, single.astype(np.float64))


@pytest.mark.parametrize("format_", ["json", "tsv"])
def test_text_has_no_doubles(service, format_):
    body = {"sequence": "ACGT", "pooling": "mean", "dtype": "float64", "format": format_}

    answer = service.post("/features", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "options.conflict")
    assert "npy, npz and arrow" in answer.json()["detail"]
