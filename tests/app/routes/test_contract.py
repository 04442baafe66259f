"""The OpenAPI document, held against what the service does."""

import jsonschema_rs
import pytest

from app.problems import PROBLEMS
from tests.support.dna import dna

BY_WINDOW = {"overflow": "window", "vectors": "window"}
DATA_PATHS = ["/features", "/embeddings", "/tokenize", "/v1/embeddings"]
# Headers of some answers only.
SOMETIMES = {
    *("x-gena-ids", "x-gena-records", "x-gena-skipped", "x-gena-truncated", "x-gena-warning"),
}


@pytest.fixture(scope="module")
def document(shared_service):
    return shared_service.client.get("/openapi.json").json()


def schema_of(document, path: str, status: int = 200) -> dict:
    (content,) = [
        each
        for name, each in document["paths"][path]["post"]["responses"][str(status)][
            "content"
        ].items()
        if name.endswith("json")
    ]
    return content["schema"]


def examples(node):
    """Every example beside its schema."""
    if isinstance(node, dict):
        if "schema" in node:
            if "example" in node:
                yield node["schema"], node["example"]
            for example in node.get("examples", {}).values():
                yield node["schema"], example["value"]
        for value in node.values():
            yield from examples(value)
    elif isinstance(node, list):
        for item in node:
            yield from examples(item)


@pytest.mark.parametrize("path", DATA_PATHS)
def test_every_example_fits_its_schema(document, path):
    found = list(examples(document["paths"][path]))

    assert len(found) > 15
    for schema, example in found:
        jsonschema_rs.validate(schema, example)


@pytest.mark.parametrize("path", DATA_PATHS)
def test_every_body_example_is_answered(document, service, path):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    for media_type, body in content.items():
        for _, example in examples({"content": body}):
            if path == "/v1/embeddings":
                example = {**example, "model": "lab/model"}
            request = (
                {"json": example}
                if media_type == "application/json"
                else {"content": example, "headers": {"Content-Type": media_type}}
            )
            response = service.post(path, **request)

            assert response.status_code == 200, response.text
            jsonschema_rs.validate(schema_of(document, path), response.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/features", {"sequence": "ACGT"}),
        ("/features", {"sequence": dna(3000), "overflow": "window", "strand": "reverse"}),
        ("/features", {"sequence": dna(3000), "overflow": "truncate", "pooling": "cls"}),
        ("/features", {"sequences": ["ACGT", "X"], "on_error": "skip", "resolution": "base"}),
        ("/embeddings", {"sequences": ["ACGT", "X"], "on_error": "skip"}),
        ("/embeddings", {"sequence": dna(3000), "overflow": "window", "strand": "both"}),
        ("/tokenize", {"sequence": "ACGTNR"}),
        ("/tokenize", {"sequences": ["ACGTNR", "A\nCG"]}),
        ("/embeddings", {"sequences": ["ACGTNR", "A\nCG"]}),
        ("/tokenize", {"sequences": ["ACGT", "X"], "on_error": "skip"}),
        ("/features", {"sequence": dna(6000), "pooling": "max", **BY_WINDOW}),
        ("/embeddings", {"sequences": [dna(6000), "ACGT"], **BY_WINDOW}),
        ("/v1/embeddings", {"model": "model", "input": "ACGT", "encoding_format": "base64"}),
        ("/v1/embeddings", {"model": "model", "input": [[5, 6]], "token_ids": "accept"}),
    ],
)
def test_answers_fit_the_schema(document, service, path, body):
    response = service.post(path, json=body)

    assert response.status_code == 200
    jsonschema_rs.validate(schema_of(document, path), response.json())
    described = document["paths"][path]["post"]["responses"]["200"]["headers"]
    own = {name for name in response.headers if name.startswith(("x-gena-", "x-request-"))}
    assert own <= {name.lower() for name in described} <= own | SOMETIMES | {"server-timing"}


@pytest.mark.parametrize(
    ("path", "never"),
    [("/tokenize", "X-Gena-Truncated"), ("/v1/embeddings", "X-Gena-Skipped")],
)
def test_headers_that_a_route_never_sends_are_not_promised(document, path, never):
    described = document["paths"][path]["post"]["responses"]["200"]["headers"]

    assert never in document["paths"]["/features"]["post"]["responses"]["200"]["headers"]
    assert never not in described


def test_the_data_routes_document_every_problem_that_they_can_give(document):
    documented = {
        (example["value"]["status"], code, example["value"]["title"])
        for path in DATA_PATHS
        for response in document["paths"][path]["post"]["responses"].values()
        for media_type, content in response["content"].items()
        if media_type == "application/problem+json"
        for code, example in content["examples"].items()
    }

    assert documented == {
        (kind.status, code, kind.title) for code, kind in PROBLEMS.items() if kind.of_data
    }


@pytest.mark.parametrize("path", DATA_PATHS)
def test_another_method_is_405_with_allow(service, path):
    response = service.client.get(path)

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["code"] == "route.method_not_allowed"
    assert (
        f" {str(service.client.base_url).rstrip('/')}{path.removeprefix('/v1')}. "
        in response.json()["detail"]
    )


def test_problems_carry_the_request_id(service):
    response = service.post(
        "/features", json={"sequence": "X"}, headers={"X-Request-ID": "from-the-lab"}
    )

    assert response.json()["request_id"] == "from-the-lab"
