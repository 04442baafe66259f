"""The bodies of requests. They are read by hand, as streams, so FastAPI cannot derive them."""

from typing import Any

from pydantic import BaseModel

from app import media_types
from app.requests.schemas import DNA_LETTERS, SEQUENCE_SCHEMA

_EXAMPLE_DNA = "ATGGCGTACGTTAGCCTGACCTGA"
_FASTA_PATTERN = rf"^(>[!-~]{{1,200}}( [ -~]*)?\n\n*[{DNA_LETTERS}][{DNA_LETTERS}\n]*(\n|$))+$"
_EXAMPLE_FASTA = f">gene1\n{_EXAMPLE_DNA}\n>gene2\nTTGACANNRYACGT\n"

_FILE: dict[str, Any] = {
    "type": "string",
    "format": "binary",
    "description": "FASTA or FASTQ, also gzipped.",
}
_DESCRIPTION = (
    "JSON, a bare sequence, FASTA or FASTQ; any of them also gzipped. With curl: "
    "`--data-binary @genes.fa`, `-F file=@genes.fa.gz`, "
    "`-H 'Content-Type: text/plain' -d ACGT`. A body that begins with > or @ is FASTA or FASTQ, "
    "also as text/plain."
)
_JSON_EXAMPLES: dict[str, Any] = {
    "one": {"summary": "One sequence", "value": {"sequence": _EXAMPLE_DNA}},
    "several": {
        "summary": "Several, with ids",
        "value": {
            "sequences": [
                {"id": "gene1", "sequence": _EXAMPLE_DNA},
                {"id": "gene2", "sequence": "TTGACANNRYACGT"},
            ]
        },
    },
}
# Bodies that are the same whatever the route.
_PLAIN: dict[str, Any] = {
    media_types.TEXT: {"schema": {"type": "string", **SEQUENCE_SCHEMA}, "example": _EXAMPLE_DNA},
    media_types.FASTA: {
        "schema": {"type": "string", "pattern": _FASTA_PATTERN},
        "example": _EXAMPLE_FASTA,
    },
    media_types.FASTQ: {
        "schema": {"type": "string"},
        "example": "@read1\nACGTACGT\n+\nIIIIIIII\n",
    },
    media_types.OCTETS: {"schema": _FILE},
}


def sequences_request(schema: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """The bodies that carry sequences.

    Args:
        schema: of JSON.
        options: that a form may carry beside its file.
    """
    return {
        "requestBody": {
            "required": True,
            "description": _DESCRIPTION,
            "content": {
                media_types.JSON: {"schema": _inline(schema), "examples": _JSON_EXAMPLES},
                **_PLAIN,
                media_types.FORM: {"schema": _form(options)},
            },
        }
    }


def _form(options: type[BaseModel]) -> dict[str, Any]:
    # A default would be sent by clients that fill in forms, and contradict the query.
    fields = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in _inline(options)["properties"].items()
    }
    return {
        "type": "object",
        "required": ["file"],
        "properties": {"file": _FILE, **fields},
        "additionalProperties": False,
    }


def json_request(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """A body that is JSON and nothing else."""
    return {
        "requestBody": {
            "required": True,
            "content": {media_types.JSON: {"schema": _inline(schema), "example": example}},
        }
    }


def _inline(schema: type[BaseModel]) -> dict[str, Any]:
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
