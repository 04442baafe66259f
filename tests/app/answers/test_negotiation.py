"""Which format an answer has."""

import pytest

from app.answers.negotiation import negotiate
from app.requests.options import EmbeddingsOptions, FeaturesOptions


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/x-npy", "npy"),
        ("APPLICATION/X-NPY", "npy"),
        ("application/x-npz, application/json;q=0.5", "npz"),
        ("application/json;q=0.1, application/x-npy;q=0.9", "npy"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "json"),
        ("text/*", "tsv"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("application/json;q=0, */*", "npy"),
        ("", "json"),
    ],
)
def test_the_accept_header_chooses_the_format(accept, expected):
    assert negotiate(accept) == expected


@pytest.mark.parametrize("options", [FeaturesOptions, EmbeddingsOptions])
def test_who_says_nothing_gets_the_format_that_is_documented(options):
    assert negotiate(None) == options.model_fields["format"].default


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/html"])
@pytest.mark.parametrize("path", ["/features", "/embeddings", "/tokenize"])
def test_what_is_not_offered_is_406(service, path, accept):
    response = service.post(path, json={"sequence": "ACGT"}, headers={"Accept": accept})

    assert (response.status_code, response.json()["code"]) == (406, "format.not_acceptable")


def test_the_query_wins_over_the_accept_header(service):
    response = service.post(
        "/embeddings?format=tsv", json={"sequence": "A"}, headers={"Accept": "application/json"}
    )

    assert response.headers["content-type"].startswith("text/tab-separated-values")
