"""What the JSON bodies of requests hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.requests.options import (
    EmbeddingsOptions,
    FeaturesOptions,
    Strict,
    TokenizeOptions,
    VectorOptions,
    whole_number,
)
from app.requests.validation import OUR_COMPLAINT, label
from converter.tokenizer_file import LETTERS

MAX_ID_LENGTH = 256
DNA_LETTERS = LETTERS + LETTERS.lower()
# Told to people and to clients that generate requests; the service itself says which letter is
# wrong and where, which a pattern cannot.
SEQUENCE_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "pattern": rf"^[ \t\r\n]*[{DNA_LETTERS}][{DNA_LETTERS} \r\n]*$",
}
_ID_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^[ -~]*[!-~][ -~]*$",
}


# Fields of which a body has one.
_SEQUENCES = {"sequence", "sequences"}


def _number_as_text(value: Any) -> Any:
    """Validator: tables number their rows."""
    return str(value) if type(value) is int else value


class SequenceRecord(Strict):
    """A sequence and what it is called."""

    id: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        description="Kept in the answer; nothing in it that cannot be seen.",
        json_schema_extra=_ID_SCHEMA,
    )
    sequence: str = Field(description="DNA.", json_schema_extra=SEQUENCE_SCHEMA)


DnaText = Annotated[str, Field(json_schema_extra=SEQUENCE_SCHEMA)]

_TEXT, _RECORD = label("text"), label("record")
_TEXTS, _IDS, _LISTS_OF_IDS = label("texts"), label("ids"), label("lists of ids")


def _kind_of_sequence(value: Any) -> str | None:
    if isinstance(value, str):
        return _TEXT
    return _RECORD if isinstance(value, dict) else None


def _not_null(value: Any) -> Any:
    """Validator: what R, pandas and JavaScript write where a value is missing."""
    if value is None:
        raise PydanticCustomError(OUR_COMPLAINT, "null is a missing value: leave it out")
    return value


def _one_text(value: Any) -> Any:
    """Validator: not a list, which R makes of every value."""
    if isinstance(value, list):
        raise PydanticCustomError(
            OUR_COMPLAINT,
            "text is expected; a list goes into sequences (from R, toJSON with auto_unbox = TRUE)",
        )
    return value


def _several(value: Any) -> Any:
    """Validator: not one text, as R makes of a list of one."""
    if isinstance(value, str):
        raise PydanticCustomError(
            OUR_COMPLAINT,
            "a list is expected, also of one; a single one can go into sequence (from R, toJSON "
            "of I(x))",
        )
    return value


SequenceItem = Annotated[
    Annotated[DnaText, Tag(_TEXT)] | Annotated[SequenceRecord, Tag(_RECORD)],
    Discriminator(
        _kind_of_sequence,
        custom_error_type=OUR_COMPLAINT,
        custom_error_message="give DNA as text, or an object with id and sequence",
    ),
    BeforeValidator(_not_null),
]


class SubmittedSequences(Strict):
    """One `sequence` or several `sequences`."""

    @model_validator(mode="before")
    @classmethod
    def _other_forms(cls, value: Any) -> Any:
        """A bare list is one of sequences; what OpenAI's clients send is for another path."""
        if isinstance(value, list):
            return {"sequences": value}
        if isinstance(value, dict) and "input" in value and value.keys().isdisjoint(_SEQUENCES):
            raise PydanticCustomError(
                OUR_COMPLAINT,
                "this is what OpenAI's clients send; it goes to /v1/embeddings "
                "(base_url ends with /v1)",
            )
        return value

    sequence: Annotated[str, BeforeValidator(_one_text), BeforeValidator(_not_null)] = Field(
        "",
        description="DNA: A C G T U and the IUPAC letters, lower case and white space welcome.",
        json_schema_extra=SEQUENCE_SCHEMA,
    )
    sequences: Annotated[list[SequenceItem], Field(fail_fast=True), BeforeValidator(_several)] = (
        Field(
            default_factory=list,
            description="Several, as strings (their ids are 1, 2, ...) or with ids of your own.",
            json_schema_extra={"minItems": 1},
        )
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if ("sequence" in self.model_fields_set) == ("sequences" in self.model_fields_set):
            raise PydanticCustomError(OUR_COMPLAINT, "give either sequence or sequences")
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


TokenId = Annotated[int, Field(ge=0)]
# From here on it, a float is not one whole number but several.
_EXACT = 2.0**53


def _token_ids(values: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validator: a list of ids, which may have a million, is looked at as a whole where it is fine.

    As with `whole_number`, 3.0 is 3.
    """
    if not isinstance(values, list) or not values:
        return validate(values)
    kinds = set(map(type, values))
    if float in kinds:
        values = [
            int(value)
            if type(value) is float and value.is_integer() and abs(value) < _EXACT
            else value
            for value in values
        ]
        kinds = set(map(type, values))
    return values if kinds == {int} and min(values) >= 0 else validate(values)


def _kind_of_input(value: Any) -> str | None:
    if isinstance(value, str):
        return _TEXT
    if not (isinstance(value, list) and value):
        return None
    if isinstance(value[0], str):
        return _TEXTS
    return _LISTS_OF_IDS if isinstance(value[0], list) else _IDS


DnaTexts = Annotated[list[DnaText], Field(min_length=1, fail_fast=True)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True), WrapValidator(_token_ids)]
OpenAIInput = Annotated[
    Annotated[DnaText, Tag(_TEXT)]
    | Annotated[DnaTexts, Tag(_TEXTS)]
    | Annotated[TokenIds, Tag(_IDS)]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag(_LISTS_OF_IDS)],
    Discriminator(
        _kind_of_input,
        custom_error_type=OUR_COMPLAINT,
        custom_error_message="give DNA, token ids, or a list of either that is not empty",
    ),
]


class _OpenAIFields(Strict):
    """What OpenAI's clients send of themselves."""

    input: OpenAIInput = Field(description="DNA.")
    token_ids: Literal["error", "accept"] = Field(
        "error",
        description="`accept`: `input` may also hold lists of token ids, as `POST /tokenize` gives "
        "them. `error`: such lists are refused, as ids of other tokenizers would be read as DNA.",
    )
    model: str = Field(min_length=1, description="The id of the model that is served.")
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="`base64`: little-endian float32."
    )
    dimensions: Annotated[int, Field(ge=1), BeforeValidator(whole_number)] | None = Field(
        None, description="Only the model's own size: vectors are not shortened."
    )
    user: str | None = Field(None, description="Ignored.")


class OpenAIEmbeddingsBody(VectorOptions, _OpenAIFields):
    """JSON body of `POST /v1/embeddings`, as OpenAI's clients send it."""
