"""What the data routes say of themselves in the OpenAPI document: bodies, answers, problems.

Bodies are read by hand, as streams, so FastAPI cannot derive them; tests hold them against what
the service does.
"""

from typing import Any

from pydantic import BaseModel

from app.problems import PROBLEM_JSON
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

# status: (what it means, {code: (title, detail, further members)})
_PROBLEMS: dict[int, tuple[str, dict[str, tuple[str, str, dict[str, Any]]]]] = {
    400: (
        "The body cannot be read.",
        {
            "json.invalid": (
                "The body is not JSON",
                "Invalid JSON: expected value at line 1 column 2.",
                {},
            ),
            "fasta.invalid": (
                "The FASTA file cannot be read",
                "It has no line breaks. curl's -d removes them: use --data-binary @genes.fa.",
                {},
            ),
            "fastq.invalid": (
                "The FASTQ file cannot be read",
                "Length of sequence and qualities differ (line 4).",
                {},
            ),
            "gzip.invalid": ("The gzip body cannot be read", "It ends too early.", {}),
            "form.invalid": (
                "The form cannot be read",
                "It has no file. With curl: -F file=@genes.fa",
                {},
            ),
        },
    ),
    401: (
        "The API key is missing or wrong.",
        {"auth.invalid": ("An API key is needed", "The key is missing or wrong.", {})},
    ),
    404: (
        "Another model is served.",
        {
            "model.unknown": (
                "This model is not served",
                "Served is AIRI-Institute/gena-lm-bert-base.",
                {},
            )
        },
    ),
    406: (
        "The Accept header names no format that is offered.",
        {
            "format.not_acceptable": (
                "No such format",
                "The Accept header names nothing that is offered here: application/json.",
                {},
            )
        },
    ),
    413: (
        "A limit of the service is exceeded.",
        {
            "body.too_large": (
                "The body is too large",
                "The limit is 67108864 bytes.",
                {"limit": 67108864},
            ),
            "body.too_large_decoded": (
                "The body is too large after decompression",
                "A compressed body may inflate to 268435456 bytes.",
                {"limit": 268435456},
            ),
            "record.too_long": (
                "A record is too long",
                "Record 'chr1' has 5000001 bases; the limit is 5000000.",
                {"record": "chr1", "count": 5000001, "limit": 5000000},
            ),
            "request.too_many_records": (
                "The request has too many records",
                "A request may have 10000 records.",
                {"limit": 10000},
            ),
            "request.too_many_tokens": (
                "The request has too many tokens",
                "A request may have 5000000 tokens, the specials and overlaps of windows included.",
                {"limit": 5000000},
            ),
        },
    ),
    415: (
        "The Content-Type, or the Content-Encoding, is not read here.",
        {
            "body.unsupported_type": (
                "Content-Type not supported",
                "The body begins neither with > (FASTA) nor @ (FASTQ), and its Content-Type does "
                "not say what it is. With curl: -H 'Content-Type: text/plain' -d ACGT for a bare "
                "sequence.",
                {},
            ),
            "body.unsupported_encoding": (
                "Content-Encoding not supported",
                "The body may be sent as it is or with gzip.",
                {},
            ),
        },
    ),
    421: (
        "The Host header names another machine.",
        {
            "host.refused": (
                "This server does not answer to that name",
                "The Host header names another machine.",
                {},
            )
        },
    ),
    422: (
        "The request was read and cannot be answered.",
        {
            "sequence.invalid_letter": (
                "Not a DNA sequence",
                "Record 'gene1': 'E' at position 7 is not a DNA letter. It occurs in proteins; "
                "DNA is expected.",
                {"record": "gene1", "position": 7, "letter": "E"},
            ),
            "sequence.empty": (
                "The sequence is empty",
                "Record 'gene1' has no bases.",
                {"record": "gene1"},
            ),
            "sequence.too_long": (
                "The sequence does not fit in one window",
                "The sequence has 812 tokens; a window holds 510. Choose overflow=window to cut "
                "it into windows, or overflow=truncate to use its beginning.",
                {"count": 812, "limit": 510},
            ),
            "record.duplicate_id": (
                "Two records have the same id",
                "The id 'gene1' occurs more than once; answers could not be told apart.",
                {"record": "gene1"},
            ),
            "record.invalid_id": (
                "A record's id cannot be used",
                "Record 3 has no id.",
                {"record_number": 3},
            ),
            "records.none": ("There is no record", "Send at least one sequence.", {}),
            "records.all_skipped": (
                "No record could be used",
                "All 2 records have problems.",
                {"skipped": []},
            ),
            "body.empty": ("The body is empty", "Send a sequence.", {}),
            "options.unknown": (
                "Unknown field",
                "poling is not a field of this request.",
                {"problems": [{"where": "poling", "message": "is not a field of this request"}]},
            ),
            "options.conflict": (
                "Options do not go together",
                "stride is the overlap of windows: add overflow=window.",
                {"fields": ["stride"]},
            ),
            "request.invalid": (
                "The request does not fit its schema",
                "pooling: Input should be 'none', 'mean', 'cls' or 'max'.",
                {"problems": [{"where": "pooling", "message": "Input should be 'none', ..."}]},
            ),
            "tokens.invalid": (
                "Not a token of a sequence",
                "Input 1: the id at position 3 is a special token or is not in the vocabulary of "
                "32000.",
                {"record": "1", "position": 3},
            ),
            "dtype.overflow": (
                "The features do not fit in float16",
                "A feature is larger than 65504: choose dtype=float32.",
                {},
            ),
        },
    ),
    429: (
        "The queue is full.",
        {"queue.full": ("The queue is full", "Try again in 3 s.", {"limit": 65536})},
    ),
    500: (
        "A fault of the service or of the model.",
        {
            "model.not_finite": (
                "The model's answer is not finite",
                "The features hold NaN or infinity. Verify the bundle with gena verify.",
                {},
            ),
            "internal": (
                "Internal error",
                "The service failed in a way that it should not; its log says more.",
                {},
            ),
        },
    ),
    503: (
        "There is no model now.",
        {
            "model.not_ready": (
                "The model is not ready",
                "It is being converted. GET /health says when it is ready.",
                {},
            ),
            "model.failed": (
                "There is no model",
                "The conversion failed. GET /health says why and what to do.",
                {},
            ),
            "model.crashed": (
                "The model stopped while it computed this answer",
                "It is being restarted; send the request again.",
                {},
            ),
        },
    ),
    504: (
        "The deadline has passed.",
        {
            "deadline.exceeded": (
                "The request took too long",
                "The answer was not ready after 600 s.",
                {"limit": 600},
            )
        },
    ),
}
_WITH_RETRY = (429, 503)
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}},
}


def problem_responses(*left_out: int) -> dict[int | str, dict[str, Any]]:
    """Every problem that a data route can answer with, an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, (description, codes) in _PROBLEMS.items():
        if status in left_out:
            continue
        examples = {
            code: {
                "summary": title,
                "value": {
                    "type": f"urn:gena:problem:{code}",
                    "title": title,
                    "status": status,
                    "detail": detail,
                    "code": code,
                    **fields,
                },
            }
            for code, (title, detail, fields) in codes.items()
        }
        responses[status] = {
            "description": f"{description} Codes: {', '.join(codes)}.",
            "content": {PROBLEM_JSON: {"schema": _PROBLEM_SCHEMA, "examples": examples}},
            **({"headers": _RETRY_AFTER} if status in _WITH_RETRY else {}),
        }
    return responses


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
