"""Posted by who did not read the documentation: answered as meant, or a clear problem."""

import pytest

PLAIN = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (MARK + b"ACGTACGT", PLAIN),
        (MARK + b'{"sequence": "ACGTACGT"}', JSON),
        (b"\n" * 100_000 + b"ACGTACGT\r\n", PLAIN),
    ],
)
def test_a_byte_order_mark_and_blank_lines_are_no_part_of_a_sequence(service, body, headers):
    expected = service.post("/tokenize", json={"sequence": "ACGTACGT"}).json()
    answered = service.post("/tokenize", content=body, headers=headers).json()
    assert answered["input_ids"] == expected["input_ids"]
    assert answered["n_bases"] == 8


@pytest.mark.parametrize("body", [MARK + b">a\nACGT\n", b">a x\r\nAC\r\nGT\r\n", b">a\rACGT\r"])
def test_files_of_other_systems_are_read(service, body):
    (record,) = service.post("/tokenize", content=body).json()["records"]
    assert (record["id"], record["n_bases"]) == ("a", 4)


@pytest.mark.parametrize(
    ("body", "letter"),
    [
        (b"\xbbACGT", "\ufffd"),  # parts of a byte order mark are not one
        (b"\xbfACGT", "\ufffd"),
        ("ＡＣＧＴ".encode(), "Ａ"),  # begins with a byte of it
        (b"\0ACGT", "\0"),
    ],
)
def test_what_only_resembles_dna_is_named(service, body, letter):
    response = service.post("/tokenize", content=body, headers=PLAIN)
    assert response.status_code == 422
    assert response.json()["code"] == "sequence.invalid_letter"
    assert response.json()["letter"] == letter
    assert response.json()["position"] == 1


@pytest.mark.parametrize("query", ["pooling=mean&pooling=max", "pooling=mean&%70ooling=mean"])
def test_an_option_that_is_given_twice_is_refused(service, query):
    response = service.post(f"/features?{query}", content="ACGT", headers=PLAIN)
    assert response.status_code == 422
    assert response.json()["code"] == "options.conflict"
    assert response.json()["fields"] == ["pooling"]


def test_a_name_that_is_given_twice_is_not_repeated_at_length(service):
    response = service.post(f"/v1/embeddings?{'x' * 9000}=1&{'x' * 9000}=2", json={})
    assert response.json()["code"] == "options.conflict"
    assert response.json()["fields"] == ["(a name of 9000 characters)"]
    assert "xxx" not in response.text


def test_percent_encoded_options_are_options(service):
    response = service.post("/features?%70ooling=%6dean", content="ACGT", headers=PLAIN)
    assert response.json()["pooling"] == "mean"


def test_the_wrong_method_and_the_wrong_path_say_what_to_do(service):
    wrong_method = service.client.put("/features")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["Allow"] == "POST"
    assert "Allow" in wrong_method.json()["detail"]
    wrong_path = service.post("/feature", content="ACGT", headers=PLAIN)
    assert wrong_path.status_code == 404
    assert "/docs" in wrong_path.json()["detail"]
