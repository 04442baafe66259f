"""The official client, unchanged."""

import base64
from types import ModuleType

import numpy as np
import pytest

from tests.support.dna import close, dna, merged
from tests.support.live_service import HIDDEN, running


@pytest.fixture(scope="module")
def openai() -> ModuleType:
    """Not at the top: only the worker that runs these tests waits for it."""
    import openai

    return openai


@pytest.fixture
def client(service, openai):
    return openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)


IDS = {"token_ids": "accept"}


def mean(truth, sequence: str) -> np.ndarray:
    return truth.rows(truth.ids(sequence))[1:-1].mean(0)


def test_a_string_and_a_list(client, truth):
    sequences = [dna(100, seed=1), dna(90, seed=2)]

    one = client.embeddings.create(model="lab/model", input=sequences[0])
    several = client.embeddings.create(model="model", input=sequences)

    close(one.data[0].embedding, mean(truth, sequences[0]))
    assert [item.index for item in several.data] == [0, 1]
    for item, sequence in zip(several.data, sequences, strict=True):
        close(item.embedding, mean(truth, sequence))
    n_tokens = sum(len(truth.ids(s)) + 2 for s in sequences)
    assert several.usage.prompt_tokens == several.usage.total_tokens == n_tokens
    assert (several.object, several.model) == ("list", "model")


@pytest.mark.parametrize("with_specials", [False, True])
def test_token_ids(client, service, truth, with_specials):
    sequence = dna(120, seed=3)
    ids = truth.ids(sequence)
    if with_specials:
        ids = service.post("/tokenize", json={"sequence": sequence}).json()["input_ids"]

    one = client.embeddings.create(model="lab/model", input=ids, extra_body=IDS)
    several = client.embeddings.create(model="lab/model", input=[ids, [5, 6]], extra_body=IDS)

    close(one.data[0].embedding, mean(truth, sequence))
    close(several.data[0].embedding, mean(truth, sequence))
    close(several.data[1].embedding, truth.rows([5, 6])[1:-1].mean(0))


def test_both_encodings_hold_the_same_numbers(client, service):
    sequence = dna(80, seed=4)
    decoded = client.embeddings.create(model="lab/model", input=sequence)
    listed = client.embeddings.create(model="lab/model", input=sequence, encoding_format="float")
    raw = service.post(
        "/v1/embeddings",
        json={"model": "lab/model", "input": sequence, "encoding_format": "base64"},
    ).json()

    numbers = np.array(listed.data[0].embedding, np.float32)
    np.testing.assert_array_equal(np.array(decoded.data[0].embedding, np.float32), numbers)
    array = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(array, numbers)


def test_our_options_travel_in_extra_body(client, truth):
    sequence = dna(3000, seed=5)
    rows, _ = merged(truth, sequence, 30)
    expected = rows.max(0) / np.linalg.norm(rows.max(0))

    answer = client.embeddings.create(
        model="lab/model",
        input=sequence,
        dimensions=HIDDEN,
        user="somebody",
        extra_body={"pooling": "max", "overflow": "window", "stride": 30, "normalize": True},
    )

    close(answer.data[0].embedding, expected)


def test_errors_are_those_that_the_client_knows(client, openai):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-3-small", input="ACGT")
    with pytest.raises(openai.UnprocessableEntityError) as letter:
        client.embeddings.create(model="lab/model", input=["ACGT", "AXT"])
    with pytest.raises(openai.UnprocessableEntityError) as size:
        client.embeddings.create(model="lab/model", input="ACGT", dimensions=8)

    assert (unknown.value.code, unknown.value.param) == ("model.unknown", "model")
    assert letter.value.code == "sequence.invalid_letter"
    # What people see of an exception, and nothing else of the answer.
    assert "Served is lab/model." in str(unknown.value)
    assert "Record '2': 'X' at position 2" in str(letter.value)
    assert "64" in str(size.value)


def test_who_is_not_let_in_hears_why(truth, openai):
    with running(truth, api_key="secret") as service:
        client = openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="The key is missing or wrong"):
            client.embeddings.create(model="lab/model", input="ACGT")


@pytest.mark.parametrize("ids", [[835, 23050, 26460], [[835, 23050], [5, 6]], [[5, 6]]])
def test_ids_are_refused_unless_they_are_asked_for(client, openai, ids):
    """What LangChain sends unless it is told otherwise: ids of OpenAI's tokenizer."""
    with pytest.raises(openai.UnprocessableEntityError, match=r"check_embedding_ctx_length=False"):
        client.embeddings.create(model="lab/model", input=ids)


def test_null_is_the_default(service):
    body = {"model": "lab/model", "input": "ACGT", "dimensions": None, "user": None}

    answer = service.post("/v1/embeddings", json={**body, "encoding_format": None})

    assert isinstance(answer.json()["data"][0]["embedding"], list)


def test_models_are_listed_and_found(client, openai):
    (listed,) = client.models.list()

    assert (listed.id, listed.owned_by) == ("lab/model", "lab")
    assert client.models.retrieve("lab/model") == client.models.retrieve("model") == listed
    with pytest.raises(openai.NotFoundError, match=r"Served is lab/model\."):
        client.models.retrieve("text-embedding-3-small")


@pytest.mark.parametrize("path", ["/embeddings", "/features"])
def test_a_client_whose_base_url_lacks_v1_is_led_there(service, path):
    answer = service.post(path, json={"model": "lab/model", "input": ["ACGT"]})

    assert answer.status_code == 422
    assert "/v1/embeddings (base_url ends with /v1)" in answer.json()["detail"]


def test_a_slash_too_many_is_told_to_the_client(service):
    answer = service.post("/v1/embeddings/", json={"model": "lab/model", "input": "ACGT"})

    assert (answer.status_code, answer.json()["code"]) == (404, "route.not_found")
    assert "/docs" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([5, 400], "tokens.invalid"),
        ([5, 3, 5], "tokens.invalid"),
        ([1, 5, 5], "tokens.invalid"),
        ([1, 2], "sequence.empty"),
        ([5] * 511, "sequence.too_long"),
        ([-1], "request.invalid"),
        ([], "request.invalid"),
        ([[]], "request.invalid"),
        ([5, "ACGT"], "request.invalid"),
        ([True], "request.invalid"),
        ([[5], "A"], "request.invalid"),
    ],
)
def test_ids_that_are_no_tokens_of_a_sequence(service, ids, code):
    response = service.post("/v1/embeddings", json={"model": "lab/model", "input": ids, **IDS})

    assert (response.status_code, response.json()["code"]) == (422, code)


def test_it_takes_json_only(service):
    response = service.post("/v1/embeddings", content=b"ACGT", headers={"Content-Type": "text/csv"})

    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


def test_ids_have_no_other_strand(service):
    body = {"model": "lab/model", "input": [5, 6], "strand": "both", **IDS}

    response = service.post("/v1/embeddings", json=body)

    assert response.json()["code"] == "options.conflict"


def test_where_an_input_is_wrong_names_no_function_of_the_service(service):
    for given in ([], [None], [[]], [[-1]]):
        response = service.post("/v1/embeddings", json={"model": "model", "input": given})

        assert response.status_code == 422
        places = [problem["where"] for problem in response.json()["problems"]]
        assert places
        assert all(place.split(".")[0] == "input" for place in places)
        assert not any("function" in place or "whole_number" in place for place in places)
