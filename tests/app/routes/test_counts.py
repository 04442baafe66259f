"""A count of tokens means the same wherever an answer has one: with [CLS] and [SEP]."""

import numpy as np
import pytest

# N is one token each, and one [UNK].
OWN = 600
SEQUENCE = "N" * OWN
IDS = {"model": "model", "token_ids": "accept"}


def test_tokenize_and_too_long_and_truncated_agree(service):
    told = service.post("/tokenize", json={"sequence": SEQUENCE}).json()
    refused = service.post("/features", json={"sequence": SEQUENCE}).json()
    cut = service.post("/features", json={"sequence": SEQUENCE, "overflow": "truncate"}).json()

    assert told["n_tokens"] == len(told["input_ids"]) == OWN + 2
    assert (refused["count"], refused["limit"]) == (told["n_tokens"], told["limit"])
    assert cut["truncated"]["n_tokens"] == told["n_tokens"]
    # A full window has no padding: each of its rows is real.
    rows = np.array(cut["features"][0])
    assert cut["truncated"]["kept"] == cut["n_tokens"] == told["limit"] == len(rows) == 512
    assert rows.any(axis=1).all()


@pytest.mark.parametrize("wrapped", [False, True])
def test_ids_are_counted_as_their_sequence_is(service, wrapped):
    ids = [5] * OWN
    given = [1, *ids, 2] if wrapped else ids

    refused = service.post("/v1/embeddings", json={**IDS, "input": given}).json()

    assert (refused["code"], refused["count"], refused["limit"]) == (
        "sequence.too_long",
        OWN + 2,
        512,
    )


def test_ranges_of_windows_count_the_sequence_alone(service):
    body = {"sequence": SEQUENCE, "overflow": "window", "stride": 10}

    windows = service.post("/features", json=body).json()["windows"]

    assert [window["tokens"] for window in windows] == [[0, 510], [500, OWN]]
    assert [window["n_tokens"] for window in windows] == [512, 102]
    # One base a token: the ranges are the same.
    assert [window["bases"] for window in windows] == [[0, 510], [500, OWN]]
