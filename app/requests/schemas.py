"""What the JSON bodies of requests hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from app.requests.options import (
    EmbeddingsOptions,
    FeaturesOptions,
    Strict,
    TokenizeOptions,
    VectorOptions,
    whole_number,
)

MAX_ID_LENGTH = 256
DNA_LETTERS = "ACGTURYSWKMBDHVNacgturyswkmbdhvn"
# Told to people and to clients that generate requests; the service itself says which letter is
# wrong and where, which a pattern cannot.
SEQUENCE_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "pattern": rf"^[ \t\r\n]*[{DNA_LETTERS}][{DNA_LETTERS} \t\r\n]*$",
}
_ID_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[ -~]*[!-~][ -~]*$",
}


class SequenceRecord(Strict):
    """A sequence and what it is called."""

    id: str = Field(
        description="Kept in the answer; nothing in it that cannot be seen.",
        json_schema_extra=_ID_SCHEMA,
    )
    sequence: str = Field(description="DNA.", json_schema_extra=SEQUENCE_SCHEMA)


DnaText = Annotated[str, Field(json_schema_extra=SEQUENCE_SCHEMA)]


class SubmittedSequences(Strict):
    """One `sequence` or several `sequences`."""

    sequence: str = Field(
        "",
        description="DNA: A C G T U and the IUPAC letters, lower case and white space welcome.",
        json_schema_extra=SEQUENCE_SCHEMA,
    )
    sequences: list[DnaText | SequenceRecord] = Field(
        default_factory=list,
        description="Several, as strings (their ids are 1, 2, ...) or with ids of your own.",
        json_schema_extra={"minItems": 1},
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if ("sequence" in self.model_fields_set) == ("sequences" in self.model_fields_set):
            raise ValueError("give either sequence or sequences")
        return self


_EITHER: dict[str, Any] = {"oneOf": [{"required": ["sequence"]}, {"required": ["sequences"]}]}


class FeaturesBody(SubmittedSequences, FeaturesOptions):
    """JSON body of `POST /features`."""

    model_config = ConfigDict(json_schema_extra=_EITHER)


class EmbeddingsBody(SubmittedSequences, EmbeddingsOptions):
    """JSON body of `POST /embeddings`."""

    model_config = ConfigDict(json_schema_extra=_EITHER)


class TokenizeBody(SubmittedSequences, TokenizeOptions):
    """JSON body of `POST /tokenize`."""

    model_config = ConfigDict(json_schema_extra=_EITHER)


TokenId = Annotated[int, Field(ge=0), BeforeValidator(whole_number)]


class _OpenAIFields(Strict):
    """What OpenAI's clients send of themselves."""

    input: (
        DnaText
        | Annotated[list[DnaText], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1),
        ]
    ) = Field(description="DNA, or token ids as `POST /tokenize` gives them.")
    model: str = Field(min_length=1, description="The id of the model that is served.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="`base64`: little-endian float32."
    )
    dimensions: Annotated[int, Field(ge=1), BeforeValidator(whole_number)] | None = Field(
        None, description="Only the model's own size: vectors are not shortened."
    )
    user: str | None = Field(None, description="Ignored.")


class OpenAIEmbeddingsBody(VectorOptions, _OpenAIFields):
    """JSON body of `POST /v1/embeddings`, as OpenAI's clients send it."""
