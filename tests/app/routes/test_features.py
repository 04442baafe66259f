"""The numbers, against the reference network and NumPy on windows made by hand."""

import httpx
import numpy as np
import pytest

from tests.support.dna import BASES, IUPAC, close, dna, merged, other_strand, windows_by_hand
from tests.support.live_service import HIDDEN, Service


def ok(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, code: str) -> dict:
    found = response.json()
    assert (response.status_code, found["code"]) == (422, code)
    return found


@pytest.mark.parametrize("n_bases", [1, 30, 900])
def test_one_sequence_gives_a_row_a_token_and_zeros_for_padding(service, truth, n_bases):
    sequence = dna(n_bases, letters=IUPAC[:6] + "N" if n_bases < 100 else BASES)
    expected = truth.rows(truth.ids(sequence))

    body = {"sequence": sequence, "ambiguous": "accept"}
    answer = ok(service.post("/features", json=body))

    features = np.array(answer["features"])
    assert answer["shape"] == [1, 512, HIDDEN] == list(features.shape)
    assert answer["n_tokens"] == len(expected)
    assert answer["n_unknown"] == truth.ids(sequence).count(0)
    close(features[0, : len(expected)], expected)
    assert not features[0, len(expected) :].any()
    assert answer["fingerprint"] == truth.manifest.fingerprint
    assert set(answer) == {"model", "fingerprint", "shape", "n_tokens", "n_unknown", "features"}


def test_json_numbers_read_back_to_the_float32_that_was_computed(service):
    sequence = dna(300)

    text = ok(service.post("/features", json={"sequence": sequence}))
    array = service.post("/features?format=npy", json={"sequence": sequence}).content

    same = np.array(text["features"], np.float32)
    assert same.tobytes() == array[-same.nbytes :]


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("path", ["/features", "/embeddings"])
def test_pooling_leaves_the_specials_out(service, truth, path, pooling):
    sequence = dna(500)
    rows = truth.rows(truth.ids(sequence))
    expected = {"mean": rows[1:-1].mean(0), "max": rows[1:-1].max(0), "cls": rows[0]}[pooling]

    answer = ok(service.post(path, json={"sequence": sequence, "pooling": pooling}))

    assert answer["pooling"] == pooling
    record = answer if path == "/features" else answer["records"][0]
    assert record["shape"] == [HIDDEN]
    assert record["n_tokens"] == len(rows)
    close(record["features"], expected)


def test_embeddings_pool_by_the_mean_when_not_told(service, truth):
    answer = ok(service.post("/embeddings", content=b">a\nACGTTGA\n>b\nTT\n"))

    assert answer["pooling"] == "mean"
    assert [record["id"] for record in answer["records"]] == ["a", "b"]
    for record, sequence in zip(answer["records"], ["ACGTTGA", "TT"], strict=True):
        close(record["features"], truth.rows(truth.ids(sequence))[1:-1].mean(0))


def test_510_tokens_fit_and_511_do_not(service):
    # N is one token each.
    fits = ok(service.post("/embeddings", json={"sequence": "N" * 510}))
    found = refused(service.post("/embeddings", json={"sequence": "N" * 511}), "sequence.too_long")

    assert fits["records"][0]["n_tokens"] == 512
    assert (found["count"], found["limit"]) == (513, 512)
    assert found["detail"].startswith(
        "Record '1' has 513 tokens, [CLS] and [SEP] included; a window holds 512. Choose overflow="
    )


def test_truncation_uses_the_beginning_and_says_what_was_cut(service, truth):
    sequence = dna(4000)
    ids, offsets = truth.ids(sequence), truth.offsets(sequence)

    response = service.post("/features", json={"sequence": sequence, "overflow": "truncate"})

    answer = ok(response)
    assert answer["truncated"] == {
        "n_tokens": len(ids) + 2,
        "kept": 512,
        "n_bases": 4000,
        "bases": [0, offsets[509][1]],
    }
    assert response.headers["x-gena-truncated"] == "1"
    assert answer["n_tokens"] == 512
    close(answer["features"][0], truth.rows(ids[:510]))


def test_truncation_of_what_fits_says_nothing(service):
    answer = ok(service.post("/features", json={"sequence": "ACGT", "overflow": "truncate"}))

    assert "truncated" not in answer


@pytest.mark.parametrize("overlap", [0, 100, 301])
def test_windows_are_described_and_padded_each(service, truth, overlap):
    sequence = dna(3000)
    ids, offsets = truth.ids(sequence), truth.offsets(sequence)
    expected = windows_by_hand(len(ids), overlap)

    answer = ok(
        service.post(
            "/features", json={"sequence": sequence, "overflow": "window", "stride": overlap}
        )
    )

    assert answer["windows"] == [
        {
            "window": index,
            "tokens": [start, end],
            "bases": [offsets[start][0], offsets[end - 1][1]],
            "n_tokens": end - start + 2,
        }
        for index, (start, end) in enumerate(expected)
    ]
    features = np.array(answer["features"])
    assert answer["shape"] == [len(expected), 512, HIDDEN] == list(features.shape)
    assert answer["n_tokens"] == sum(end - start + 2 for start, end in expected)
    for window, (start, end) in zip(features, expected, strict=True):
        close(window[: end - start + 2], truth.rows(ids[start:end]))
        assert not window[end - start + 2 :].any()


@pytest.mark.parametrize("overlap", [0, 101])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_merged_windows_count_each_token_once(service, truth, pooling, overlap):
    sequence = dna(3100, seed=3)
    rows, cls = merged(truth, sequence, overlap)
    expected = {"mean": rows.mean(0), "max": rows.max(0), "cls": cls.mean(0)}[pooling]

    answer = ok(
        service.post(
            "/features",
            params={"pooling": pooling, "overflow": "window", "stride": overlap},
            json={"sequence": sequence},
        )
    )

    close(answer["features"], expected)


def test_reverse_is_the_reverse_complement_with_positions_as_submitted(service, truth):
    sequence = dna(2900, seed=5, letters=BASES * 5 + IUPAC)
    turned = other_strand(sequence)
    ids, offsets = truth.ids(turned), truth.offsets(turned)

    answer = ok(
        service.post(
            "/features",
            json={"sequence": sequence, "strand": "reverse", "overflow": "window"},
        )
    )

    spans = windows_by_hand(len(ids), 0)
    assert [window["bases"] for window in answer["windows"]] == [
        [2900 - offsets[end - 1][1], 2900 - offsets[start][0]] for start, end in spans
    ]
    close(answer["features"][0], truth.rows(ids[:510]))


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_both_strands_are_the_mean_of_two_vectors(service, truth, pooling, normalize):
    sequence = dna(3300, seed=6)
    vectors = []
    for strand in (sequence, other_strand(sequence)):
        rows, cls = merged(truth, strand, 50)
        vectors.append({"mean": rows.mean(0), "max": rows.max(0), "cls": cls.mean(0)}[pooling])
    expected = np.mean(vectors, axis=0)
    if normalize:
        expected = expected / np.sqrt((expected**2).sum())

    answer = ok(
        service.post(
            "/embeddings",
            json={
                "sequence": sequence,
                "pooling": pooling,
                "strand": "both",
                "overflow": "window",
                "stride": 50,
                "normalize": normalize,
            },
        )
    )

    close(answer["records"][0]["features"], expected)


@pytest.mark.parametrize("strand", ["forward", "reverse"])
@pytest.mark.parametrize("overlap", [0, 64])
def test_each_base_has_the_row_of_its_token(service, truth, strand, overlap):
    sequence = dna(2500, seed=8, letters=BASES * 6 + IUPAC)
    read = sequence if strand == "forward" else other_strand(sequence)
    rows, _ = merged(truth, read, overlap)
    expected = np.concatenate(
        [
            np.repeat(row[None], end - start, axis=0)
            for row, (start, end) in zip(rows, truth.offsets(read), strict=True)
        ]
    )

    answer = ok(
        service.post(
            "/features",
            json={
                "sequence": sequence,
                "resolution": "base",
                "strand": strand,
                "overflow": "window",
                "stride": overlap,
            },
        )
    )

    assert answer["shape"] == [2500, HIDDEN]
    close(answer["features"], expected if strand == "forward" else expected[::-1])


@pytest.mark.parametrize("strand", ["forward", "reverse"])
def test_bases_of_a_truncated_record_are_those_that_were_kept(service, truth, strand):
    sequence = dna(3000, seed=9)
    read = sequence if strand == "forward" else other_strand(sequence)
    end = truth.offsets(read)[509][1]
    last_kept = truth.rows(truth.ids(read)[:510])[510]

    answer = ok(
        service.post(
            "/features",
            json={
                "sequence": sequence,
                "resolution": "base",
                "strand": strand,
                "overflow": "truncate",
            },
        )
    )

    kept = [0, end] if strand == "forward" else [3000 - end, 3000]
    assert answer["truncated"]["bases"] == kept
    assert answer["shape"] == [end, HIDDEN]
    close(answer["features"][-1 if strand == "forward" else 0], last_kept)


def test_float16_rounds_what_was_computed(service, truth):
    sequence = dna(200)
    expected = truth.rows(truth.ids(sequence)).astype(np.float16)

    answer = ok(service.post("/features", json={"sequence": sequence, "dtype": "float16"}))

    rows = np.array(answer["features"][0][: len(expected)], np.float16)
    np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"pooling": "max"}, {"resolution": "base"}])
def test_features_beyond_float16_are_an_error_there_and_numbers_in_float32(uncached, options):
    body = {"sequence": dna(200), **options}
    uncached.model.scale = 1e6

    found = refused(uncached.post("/features", json={**body, "dtype": "float16"}), "dtype.overflow")
    whole = ok(uncached.post("/features", json={**body, "dtype": "float32"}))

    assert "dtype=float32" in found["detail"]
    assert np.abs(np.array(whole["features"])).max() > 65504


@pytest.mark.parametrize("path", ["/features?pooling=mean", "/embeddings?format=npy"])
def test_a_row_that_is_not_finite_is_told_with_its_record(uncached, monkeypatch, caplog, path):
    sequences = [{"id": f"gene{n}", "sequence": dna(60, seed=n)} for n in range(8)]
    predict, bad = uncached.model.predict, dna(60, seed=5)
    ids = uncached.post("/tokenize", json={"sequence": bad}).json()["input_ids"]

    async def broken_for_one(windows, poolings):
        prediction = await predict(windows, poolings)
        for window, rows in zip(windows, prediction.answers, strict=True):
            if window.tolist() == ids:
                rows[-1, 7] = np.nan
        return prediction

    monkeypatch.setattr(uncached.model, "predict", broken_for_one)
    several = uncached.post(path, json={"sequences": sequences})
    single = uncached.post("/features", json={"sequence": bad})

    told = several.json()
    assert (several.status_code, told["code"], told["record"]) == (500, "model.not_finite", "gene5")
    assert told["detail"].startswith("Record 'gene5': The features hold NaN or infinity.")
    assert "model.not_finite: Record 'gene5': The features hold NaN" in caplog.text
    assert "record" not in single.json()


def test_a_repeated_sequence_is_not_computed_again(service):
    sequence = dna(700, seed=77)
    hits = service.lifecycle.metrics.cache_hits

    first = service.post("/features?format=npy", json={"sequence": sequence}).content
    before, computed = hits._value.get(), len(service.model.seen)
    again = service.post("/features?format=npy", json={"sequence": sequence.lower()}).content

    assert again == first
    assert len(service.model.seen) == computed
    assert hits._value.get() == before + 1


def test_nor_is_a_vector_and_each_pooling_has_its_own(service):
    sequence, answers = dna(700, seed=78), {}
    for pooling in ("mean", "max", "cls"):
        url = f"/embeddings?pooling={pooling}&format=npy"
        answers[pooling] = [service.post(url, json={"sequence": sequence}).content for _ in "12"]

    assert len(service.model.seen) == 3
    assert all(first == again for first, again in answers.values())
    assert len(set(map(tuple, answers.values()))) == 3


def test_the_answer_does_not_depend_on_what_else_was_asked(uncached):
    sequences = [dna(n, seed=n) for n in (50, 1000, 7, 600)]

    together = ok(uncached.post("/embeddings", json={"sequences": sequences}))["records"]
    alone = [
        ok(uncached.post("/embeddings", json={"sequence": s}))["records"][0] for s in sequences
    ]

    assert [r["features"] for r in together] == [r["features"] for r in alone]


@pytest.mark.parametrize(
    ("path", "options", "fields"),
    [
        ("/features", {"strand": "both"}, ["strand", "pooling"]),
        ("/features", {"normalize": True}, ["normalize"]),
        ("/features", {"resolution": "base", "pooling": "mean"}, ["resolution", "pooling"]),
        ("/features", {"stride": 5}, ["stride"]),
        ("/embeddings", {"stride": 5, "overflow": "truncate"}, ["stride"]),
        ("/features", {"format": "tsv"}, ["format", "pooling"]),
        ("/features", {"format": "arrow"}, ["format", "pooling"]),
    ],
)
def test_choices_that_do_not_go_together(service: Service, path, options, fields):
    in_body = service.post(path, json={"sequence": "ACGT", **options})
    in_query = service.post(
        path,
        params={k: str(v).lower() for k, v in options.items()},
        content=b"ACGT",
        headers={"Content-Type": "text/plain"},
    )

    assert refused(in_body, "options.conflict")["fields"] == fields
    assert refused(in_query, "options.conflict")["fields"] == fields


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/features", {"pooling": "sum"}),
        ("/embeddings", {"pooling": "none"}),
        ("/features", {"overflow": "window", "stride": 510}),
        ("/features", {"overflow": "window", "stride": -1}),
        ("/features", {"overflow": "window", "stride": "1.5"}),
        ("/features", {"normalize": "yes", "pooling": "mean"}),
        ("/features", {"dtype": "float128"}),
        ("/features", {"format": "csv"}),
        ("/features", {"strand": ""}),
    ],
)
def test_values_that_no_option_has(service, path, options):
    in_body = service.post(path, json={"sequence": "ACGT", **options})
    in_query = service.post(
        path, params=options, content=b"ACGT", headers={"Content-Type": "text/plain"}
    )

    refused(in_body, "request.invalid")
    refused(in_query, "request.invalid")


@pytest.mark.parametrize("path", ["/features", "/embeddings", "/tokenize"])
def test_unknown_options_are_errors(service, path):
    refused(service.post(path, json={"sequence": "ACGT", "color": 1}), "options.unknown")
    refused(service.post(path, params={"color": 1}, json={"sequence": "A"}), "options.unknown")


def test_embeddings_have_no_resolution(service):
    body = {"sequence": "ACGT", "resolution": "base"}

    refused(service.post("/embeddings", json=body), "options.unknown")
