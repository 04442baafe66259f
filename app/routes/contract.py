"""What the data routes say of themselves in the OpenAPI document: bodies, answers, problems.

Bodies are read by hand, as streams, so FastAPI cannot derive them; tests hold them against what
the service does.
"""

from typing import Any

from pydantic import BaseModel

from app.problems import (
    PROBLEM_JSON,
    PROBLEMS,
    STATUSES,
    ProblemKind,
    problem_document,
    with_hint,
)
from app.requests.schemas import DNA_LETTERS, SEQUENCE_SCHEMA

_EXAMPLE_DNA = "ATGGCGTACGTTAGCCTGACCTGA"
_FASTA_PATTERN = rf"^(>[!-~]{{1,200}}( [ -~]*)?\n\n*[{DNA_LETTERS}][{DNA_LETTERS}\n]*(\n|$))+$"
_EXAMPLE_FASTA = f">gene1\n{_EXAMPLE_DNA}\n>gene2\nTTGACANNRYACGT\n"

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened and what to do."},
        "code": {"type": "string", "description": "Stable, for programs."},
        "request_id": {"type": "string"},
        "record": {"type": "string", "description": "Id of the record at fault."},
        "position": {
            "type": "integer",
            "description": "Of the letter at fault, counted from 1 in the submitted sequence.",
        },
        "letter": {"type": "string"},
        "limit": {"type": "number"},
        "count": {"type": "number"},
    },
}

_WITH_RETRY = (429, 503)
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}},
}


def problem_responses(*left_out: int) -> dict[int | str, dict[str, Any]]:
    """Every problem that a data route can answer with, an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, meaning in STATUSES.items():
        if status in left_out:
            continue
        kinds = {
            code: kind for code, kind in PROBLEMS.items() if kind.of_data and kind.status == status
        }
        responses[status] = {
            "description": f"{meaning} Codes: {', '.join(kinds)}.",
            "content": {
                PROBLEM_JSON: {
                    "schema": _PROBLEM_SCHEMA,
                    "examples": {code: _example(code, kind) for code, kind in kinds.items()},
                }
            },
            **({"headers": _RETRY_AFTER} if status in _WITH_RETRY else {}),
        }
    return responses


def _example(code: str, kind: ProblemKind) -> dict[str, Any]:
    document = problem_document(code, kind, with_hint(kind.example, kind), kind.members)
    return {"summary": kind.title, "value": document}


def answer_headers() -> dict[str, Any]:
    """Headers of answers."""
    described = {
        "X-Gena-Model": "The model that answered.",
        "X-Gena-Fingerprint": "Of weights, tokenizer and package.",
        "X-Gena-Tokens": "Rows computed, the specials included.",
        "X-Gena-Unknown": "[UNK] among them.",
        "X-Gena-Windows": "Windows computed.",
        "Server-Timing": "Milliseconds: tokenize, queue, predict, encode; without the last two "
        "where the answer is sent while it is computed.",
    }
    return {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in described.items()
    }


def sequences_request(schema: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """The bodies that carry sequences."""
    file = {"type": "string", "format": "binary", "description": "FASTA or FASTQ, also gzipped."}
    form = inline(options)
    fields = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in form["properties"].items()
    }
    fasta = {
        "schema": {"type": "string", "pattern": _FASTA_PATTERN},
        "example": _EXAMPLE_FASTA,
    }
    return {
        "requestBody": {
            "required": True,
            "description": "JSON, a bare sequence, FASTA or FASTQ; any of them also gzipped. "
            "With curl: `--data-binary @genes.fa`, `-F file=@genes.fa.gz`, "
            "`-H 'Content-Type: text/plain' -d ACGT`. A body that begins with > or @ is FASTA "
            "or FASTQ, also as text/plain.",
            "content": {
                "application/json": {
                    "schema": inline(schema),
                    "examples": {
                        "one": {
                            "summary": "One sequence",
                            "value": {"sequence": _EXAMPLE_DNA},
                        },
                        "several": {
                            "summary": "Several, with ids",
                            "value": {
                                "sequences": [
                                    {"id": "gene1", "sequence": _EXAMPLE_DNA},
                                    {"id": "gene2", "sequence": "TTGACANNRYACGT"},
                                ]
                            },
                        },
                    },
                },
                "text/plain": {
                    "schema": {"type": "string", **SEQUENCE_SCHEMA},
                    "example": _EXAMPLE_DNA,
                },
                "text/x-fasta": fasta,
                "text/x-fastq": {
                    "schema": {"type": "string"},
                    "example": "@read1\nACGTACGT\n+\nIIIIIIII\n",
                },
                "application/octet-stream": {"schema": file},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": file, **fields},
                        "additionalProperties": False,
                    }
                },
            },
        }
    }


def json_request(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """A body that is JSON and nothing else."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": inline(schema), "example": example}},
        }
    }


def inline(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model without references."""
    document = schema.model_json_schema()
    definitions = document.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(definitions[node["$ref"].rpartition("/")[2]])
            return {key: resolved(value) for key, value in node.items()}
        if isinstance(node, list):
            return [resolved(item) for item in node]
        return node

    result: dict[str, Any] = resolved(document)
    return result


_NUMBERS = {"type": "array", "items": {"type": "number"}}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_RANGE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_STAMP = {"model": {"type": "string"}, "fingerprint": {"type": "string"}}
_DESCRIBED: dict[str, Any] = {
    "shape": _SHAPE,
    "n_tokens": {
        "type": "integer",
        "description": "Rows that the model computed, [CLS] and [SEP] of every window included.",
    },
    "n_unknown": {"type": "integer", "description": "[UNK] among the tokens."},
    "truncated": {
        "type": "object",
        "description": "What overflow=truncate cut off.",
        "properties": {
            "n_tokens": {"type": "integer"},
            "kept": {"type": "integer"},
            "n_bases": {"type": "integer"},
            "bases": _RANGE,
        },
    },
    "windows": {
        "type": "array",
        "description": "With overflow=window: tokens (without specials) and bases of every "
        "window, 0-based, half-open.",
        "items": {
            "type": "object",
            "properties": {
                "window": {"type": "integer"},
                "tokens": _RANGE,
                "bases": _RANGE,
                "n_tokens": {"type": "integer"},
                "strand": {"enum": ["reverse"]},
            },
        },
    },
    "features": {"type": "array", "items": {}},
}
_SKIPPED = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "code", "detail"],
        "properties": {
            "id": {"type": "string"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "position": {"type": "integer"},
            "letter": {"type": "string"},
        },
    },
}
_POOLING = {"pooling": {"enum": ["mean", "cls", "max"]}}
_ALWAYS = ["shape", "n_tokens", "n_unknown", "features"]


def _object(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


_SINGLE = _object([*_STAMP, *_ALWAYS], {**_STAMP, **_POOLING, **_DESCRIBED})
_RECORD = _object(["id", *_ALWAYS], {"id": {"type": "string"}, **_DESCRIBED})
_RECORDS = _object(
    [*_STAMP, "records", "skipped"],
    {
        **_STAMP,
        **_POOLING,
        "records": {"type": "array", "items": _RECORD},
        "skipped": _SKIPPED,
    },
)
_VECTOR_RECORD = _object(
    ["id", *_ALWAYS], {"id": {"type": "string"}, **_DESCRIBED, "features": _NUMBERS}
)
_VECTORS = _object(
    [*_STAMP, "pooling", "records", "skipped"],
    {
        **_STAMP,
        **_POOLING,
        "records": {"type": "array", "items": _VECTOR_RECORD},
        "skipped": _SKIPPED,
    },
)
_STAMP_EXAMPLE = {
    "model": "AIRI-Institute/gena-lm-bert-base",
    "fingerprint": "0123456789abcdef",
}
_FEATURES_EXAMPLE = {
    **_STAMP_EXAMPLE,
    "shape": [1, 512, 768],
    "n_tokens": 159,
    "n_unknown": 0,
    "features": [[[0.125, -0.5]]],
}
_VECTORS_EXAMPLE = {
    **_STAMP_EXAMPLE,
    "pooling": "mean",
    "records": [
        {
            "id": "gene1",
            "shape": [768],
            "n_tokens": 159,
            "n_unknown": 0,
            "features": [0.125, -0.5],
        }
    ],
    "skipped": [],
}
_FILES: dict[str, Any] = {
    "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
    "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
    "text/tab-separated-values": {"schema": {"type": "string"}},
    "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
}


def answer(content: dict[str, Any], description: str) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route."""
    return {
        200: {"description": description, "content": content, "headers": answer_headers()},
    }


FEATURES_ANSWER = answer(
    {
        "application/json": {
            "schema": {"anyOf": [_SINGLE, _RECORDS]},
            "example": _FEATURES_EXAMPLE,
        },
        **_FILES,
    },
    "Features. Files have their counts in the X-Gena headers.",
)
EMBEDDINGS_ANSWER = answer(
    {"application/json": {"schema": _VECTORS, "example": _VECTORS_EXAMPLE}, **_FILES},
    "One vector a record.",
)

_TOKENS: dict[str, Any] = {
    "n_tokens": {"type": "integer", "description": "[CLS] and [SEP] included."},
    "n_unknown": {"type": "integer"},
    "limit": {"type": "integer", "description": "Tokens in one window, specials included."},
    "n_bases": {"type": "integer"},
    "changes": {
        "type": "object",
        "description": "Characters removed or folded, and letters other than A C G T.",
        "additionalProperties": {"type": "integer"},
    },
    "input_ids": {"type": "array", "items": {"type": "integer"}},
    "tokens": {"type": "array", "items": {"type": "string"}},
    "offsets": {
        "type": "array",
        "description": "Bases of every token, 0-based, half-open; [0, 0] for specials.",
        "items": _RANGE,
    },
}
TOKENIZE_ANSWER = answer(
    {
        "application/json": {
            "schema": {
                "anyOf": [
                    _object([*_STAMP, *_TOKENS], {**_STAMP, **_TOKENS}),
                    _object(
                        [*_STAMP, "records", "skipped"],
                        {
                            **_STAMP,
                            "records": {
                                "type": "array",
                                "items": _object(
                                    ["id", *_TOKENS], {"id": {"type": "string"}, **_TOKENS}
                                ),
                            },
                            "skipped": _SKIPPED,
                        },
                    ),
                ]
            },
            "example": {
                **_STAMP_EXAMPLE,
                "n_tokens": 4,
                "n_unknown": 0,
                "limit": 512,
                "n_bases": 9,
                "changes": {"white_space": 0, "lower_case": 0, "uracil": 0, "ambiguous": 0},
                "input_ids": [1, 320, 41, 2],
                "tokens": ["[CLS]", "ATGGC", "GTAC", "[SEP]"],
                "offsets": [[0, 0], [0, 5], [5, 9], [0, 0]],
            },
        }
    },
    "Ids, tokens and base positions.",
)
OPENAI_ANSWER = answer(
    {
        "application/json": {
            "schema": _object(
                ["object", "data", "model", "usage"],
                {
                    "object": {"enum": ["list"]},
                    "data": {
                        "type": "array",
                        "items": _object(
                            ["object", "index", "embedding"],
                            {
                                "object": {"enum": ["embedding"]},
                                "index": {"type": "integer"},
                                "embedding": {"anyOf": [_NUMBERS, {"type": "string"}]},
                            },
                        ),
                    },
                    "model": {"type": "string"},
                    "usage": _object(
                        ["prompt_tokens", "total_tokens"],
                        {
                            "prompt_tokens": {"type": "integer"},
                            "total_tokens": {"type": "integer"},
                        },
                    ),
                },
            ),
            "example": {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.125, -0.5]}],
                "model": "AIRI-Institute/gena-lm-bert-base",
                "usage": {"prompt_tokens": 159, "total_tokens": 159},
            },
        }
    },
    "Vectors in the order of the input.",
)
