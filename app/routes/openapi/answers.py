"""The answers of the data routes: tests hold them against what the service sends."""

from typing import Any, get_args

from app import media_types
from app.answers.registry import WRITERS
from app.headers import HEADERS, SKIPPED, TRUNCATED, WARNING
from app.requests.options import VectorPooling

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_COUNTS = {"type": "array", "items": _COUNT}
_RANGE = {**_COUNTS, "minItems": 2, "maxItems": 2}
_STAMP = {"model": _TEXT, "fingerprint": _TEXT}
_POOLING = {"pooling": {"enum": list(get_args(VectorPooling))}}

_WARNING = {"type": "string", "description": HEADERS[WARNING].description}
_TRUNCATED = {
    "type": "object",
    "description": "What overflow=truncate cut off: tokens of the record and those that were kept, "
    "[CLS] and [SEP] included, and likewise bases.",
    "properties": {"n_tokens": _COUNT, "kept": _COUNT, "n_bases": _COUNT, "bases": _RANGE},
}
_WINDOW = {
    "type": "object",
    "properties": {
        "window": _COUNT,
        "tokens": _RANGE,
        "bases": _RANGE,
        "n_tokens": _COUNT,
        "strand": {"enum": ["reverse"]},
    },
}
_DESCRIBED: dict[str, Any] = {
    "shape": _COUNTS,
    "n_tokens": {
        "type": "integer",
        "description": "Rows that the model computed, [CLS] and [SEP] of every window included.",
    },
    "n_unknown": {"type": "integer", "description": "[UNK] among the tokens."},
    "warning": _WARNING,
    "truncated": _TRUNCATED,
    "windows": {
        "type": "array",
        "description": "With overflow=window or vectors=window: the range of the sequence's own "
        "tokens (counted from 0, [CLS] and [SEP] left out) and of its bases in every window, "
        "0-based, half-open; "
        "n_tokens with [CLS] and [SEP].",
        "items": _WINDOW,
    },
    "features": {"type": "array", "items": {}},
}
# One vector, or with vectors=window one a window.
_VECTORS = {"anyOf": [_NUMBERS, {"type": "array", "items": _NUMBERS}]}
_VECTOR = {**_DESCRIBED, "features": _VECTORS}
_ALWAYS = ["shape", "n_tokens", "n_unknown", "features"]
_TOKENS: dict[str, Any] = {
    "n_tokens": {"type": "integer", "description": "[CLS] and [SEP] included."},
    "n_unknown": _COUNT,
    "limit": {"type": "integer", "description": "Tokens in one window, [CLS] and [SEP] included."},
    "n_bases": _COUNT,
    "changes": {
        "type": "object",
        "description": "Characters removed or folded, and letters other than A C G T.",
        "additionalProperties": _COUNT,
    },
    "input_ids": _COUNTS,
    "tokens": {"type": "array", "items": _TEXT},
    "offsets": {
        "type": "array",
        "description": "Bases of every token, 0-based, half-open; [0, 0] for specials.",
        "items": _RANGE,
    },
}
_SKIPPED = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "code", "detail"],
        "properties": {
            "id": _TEXT,
            "code": _TEXT,
            "detail": _TEXT,
            "position": _COUNT,
            "letter": _TEXT,
        },
    },
}


def _object(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _several(
    record: dict[str, Any], always: list[str], head: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    """A list of records.

    Args:
        record: properties of one of them.
        always: those of these that every record has.
        head: properties of the answer, beside the stamp and the list.
        required: those of head and stamp that every answer has.
    """
    return _object(
        [*required, "records", "skipped"],
        {
            **_STAMP,
            **head,
            "records": {
                "type": "array",
                "items": _object(["id", *always], {"id": _TEXT, **record}),
            },
            "skipped": _SKIPPED,
        },
    )


_FEATURES_SCHEMA = {
    "anyOf": [
        _object([*_STAMP, *_ALWAYS], {**_STAMP, **_POOLING, **_DESCRIBED}),
        _several(_DESCRIBED, _ALWAYS, _POOLING, [*_STAMP]),
    ]
}
_VECTORS_SCHEMA = _several(_VECTOR, _ALWAYS, _POOLING, [*_STAMP, "pooling"])
# While a model is converted, there is no fingerprint to tell.
_TOKENS_SCHEMA = {
    "anyOf": [
        _object(["model", *_TOKENS], {**_STAMP, **_TOKENS, "warning": _WARNING}),
        _several({**_TOKENS, "warning": _WARNING}, [*_TOKENS], {}, ["model"]),
    ]
}
_OPENAI_SCHEMA = _object(
    ["object", "data", "model", "usage"],
    {
        "object": {"enum": ["list"]},
        "data": {
            "type": "array",
            "items": _object(
                ["object", "index", "embedding"],
                {
                    "object": {"enum": ["embedding"]},
                    "index": _COUNT,
                    "embedding": {"anyOf": [_NUMBERS, _TEXT]},
                },
            ),
        },
        "model": _TEXT,
        "usage": _object(
            ["prompt_tokens", "total_tokens"],
            {"prompt_tokens": _COUNT, "total_tokens": _COUNT},
        ),
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
_TOKENS_EXAMPLE = {
    **_STAMP_EXAMPLE,
    "n_tokens": 4,
    "n_unknown": 0,
    "limit": 512,
    "n_bases": 9,
    "changes": {"white_space": 0, "lower_case": 0, "uracil": 0, "ambiguous": 0},
    "input_ids": [1, 320, 41, 2],
    "tokens": ["[CLS]", "ATGGC", "GTAC", "[SEP]"],
    "offsets": [[0, 0], [0, 5], [5, 9], [0, 0]],
}
_OPENAI_EXAMPLE = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.125, -0.5]}],
    "model": "AIRI-Institute/gena-lm-bert-base",
    "usage": {"prompt_tokens": 159, "total_tokens": 159},
}

# Every format but JSON, which the routes describe themselves.
_FILES: dict[str, Any] = {
    writer.media_type: {"schema": _TEXT if writer.is_text else {**_TEXT, "format": "binary"}}
    for writer in WRITERS.values()
    if writer.media_type != media_types.JSON
}


def header_documents(*names: str) -> dict[str, Any]:
    """Headers as the OpenAPI document describes them."""
    return {name: {"description": HEADERS[name].description, "schema": _TEXT} for name in names}


def _answer(
    schema: dict[str, Any],
    example: dict[str, Any],
    files: dict[str, Any],
    description: str,
    *,
    without: str | None = None,
) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route.

    Args:
        without: a header of data that this route never sends.
    """
    names = [name for name, kind in HEADERS.items() if kind.of_data and name != without]
    return {
        200: {
            "description": description,
            "content": {media_types.JSON: {"schema": schema, "example": example}, **files},
            "headers": header_documents(*names),
        },
    }


FEATURES_ANSWER = _answer(
    _FEATURES_SCHEMA,
    _FEATURES_EXAMPLE,
    _FILES,
    "Features. Files have their counts in the X-Gena headers.",
)
EMBEDDINGS_ANSWER = _answer(_VECTORS_SCHEMA, _VECTORS_EXAMPLE, _FILES, "One vector a record.")
TOKENIZE_ANSWER = _answer(
    _TOKENS_SCHEMA,
    _TOKENS_EXAMPLE,
    {},
    "Ids, tokens and base positions.",
    without=TRUNCATED,
)
OPENAI_ANSWER = _answer(
    _OPENAI_SCHEMA,
    _OPENAI_EXAMPLE,
    {},
    "Vectors in the order of the input.",
    without=SKIPPED,
)
