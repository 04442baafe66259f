"""What a request may say: bodies, options, and which options do not go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from app.problems import ProblemError
from app.requests.validation import validation_problem
from converter.tokenizer import MAX_TOKENS

Pooling = Literal["none", "mean", "cls", "max"]
VectorPooling = Literal["mean", "cls", "max"]
Overflow = Literal["error", "truncate", "window"]
Strand = Literal["forward", "reverse", "both"]
Resolution = Literal["token", "base"]
DType = Literal["float32", "float16"]
Format = Literal["json", "npy", "npz", "tsv", "arrow"]
OnError = Literal["error", "skip"]

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


def _switch(value: Any, info: ValidationInfo) -> Any:
    """Query strings and forms hold text; JSON holds true and false."""
    if info.mode != "json" and isinstance(value, str):
        return {"true": True, "false": False}.get(value, value)
    return value


def _whole_number(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number
    if info.mode != "json" and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= 9 else value
    return value


PoolingField = Annotated[
    Pooling,
    Field(
        description="`none`: one row a token. `mean`, `max`: one vector over the real tokens, the "
        "two specials excluded. `cls`: the row of [CLS]."
    ),
]
VectorPoolingField = Annotated[
    VectorPooling,
    Field(
        description="`mean`, `max`: over the real tokens, the two specials excluded. "
        "`cls`: the row of [CLS]. Windows are merged so that each token counts once; "
        "`cls` is the mean of the windows' [CLS]."
    ),
]
OverflowField = Annotated[
    Overflow,
    Field(
        description=f"For records of more than {MAX_TOKENS} tokens. `error`: refuse them. "
        f"`truncate`: use the first {MAX_TOKENS} and say what was cut. `window`: cut them into "
        f"windows of at most {MAX_TOKENS} tokens."
    ),
]
StrideField = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_TOKENS - 1,
        strict=True,
        description="With `overflow=window`: tokens that neighbouring windows share "
        "(an overlap, as `stride` in transformers' tokenizers).",
    ),
    BeforeValidator(_whole_number),
]
StrandField = Annotated[
    Strand,
    Field(
        description="`reverse`: the reverse complement. `both`: the mean of the two strands' "
        "vectors; needs pooling. Base positions always count on the sequence as submitted."
    ),
]
NormalizeField = Annotated[
    bool,
    Field(strict=True, description="Scale vectors to length 1 (L2); needs pooling."),
    BeforeValidator(_switch),
]
ResolutionField = Annotated[
    Resolution,
    Field(description="`base`: one row a base, each base with the row of its token."),
]
DTypeField = Annotated[DType, Field(description="Type of the numbers in the answer.")]
OnErrorField = Annotated[
    OnError,
    Field(description="With several records. `skip`: answer the good ones and list the others."),
]
FormatField = Annotated[
    Format,
    Field(
        description="Format of the answer; wins over the Accept header. `tsv` and `arrow` "
        "need pooling."
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeaturesOptions(_Strict):
    """Choices of `POST /features`."""

    pooling: PoolingField = "none"
    overflow: OverflowField = "error"
    stride: StrideField = 0
    strand: StrandField = "forward"
    normalize: NormalizeField = False
    resolution: ResolutionField = "token"
    dtype: DTypeField = "float32"
    on_error: OnErrorField = "error"
    format: FormatField = "json"


class EmbeddingsOptions(_Strict):
    """Choices of `POST /embeddings`."""

    pooling: VectorPoolingField = "mean"
    overflow: OverflowField = "error"
    stride: StrideField = 0
    strand: StrandField = "forward"
    normalize: NormalizeField = False
    dtype: DTypeField = "float32"
    on_error: OnErrorField = "error"
    format: FormatField = "json"


class TokenizeOptions(_Strict):
    """Choices of `POST /tokenize`."""

    on_error: OnErrorField = "error"


class SequenceRecord(_Strict):
    """A sequence and what it is called."""

    id: str = Field(
        description="Kept in the answer; no control characters.", json_schema_extra=_ID_SCHEMA
    )
    sequence: str = Field(description="DNA.", json_schema_extra=SEQUENCE_SCHEMA)


DnaText = Annotated[str, Field(json_schema_extra=SEQUENCE_SCHEMA)]


class SubmittedSequences(_Strict):
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


TokenId = Annotated[int, Field(ge=0), BeforeValidator(_whole_number)]


class OpenAIEmbeddingsBody(BaseModel):
    """JSON body of `POST /v1/embeddings`, as OpenAI's clients send it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    dimensions: Annotated[int, Field(ge=1), BeforeValidator(_whole_number)] | None = Field(
        None, description="Only the model's own size: vectors are not shortened."
    )
    user: str | None = Field(None, description="Ignored.")
    pooling: VectorPoolingField = "mean"
    overflow: OverflowField = "error"
    stride: StrideField = 0
    strand: StrandField = "forward"
    normalize: NormalizeField = False


@dataclass(frozen=True)
class Choices:
    """What a request asks for, from all the places where it may say so."""

    pooling: Pooling = "none"
    overflow: Overflow = "error"
    stride: int = 0
    strand: Strand = "forward"
    normalize: bool = False
    resolution: Resolution = "token"
    dtype: DType = "float32"
    on_error: OnError = "error"
    format: Format | None = None

    @property
    def pooled(self) -> bool:
        """Whether the answer is one vector a record."""
        return self.pooling != "none"


def choose(*places: BaseModel, pooling: Pooling = "none") -> Choices:
    """Merge the options of the query string, the body and the form.

    Raises:
        ProblemError: two places disagree (options.conflict), or two choices do.
    """
    chosen: dict[str, Any] = {"pooling": pooling}
    said: set[str] = set()
    names = Choices.__dataclass_fields__.keys()
    for place in places:
        for name in sorted(place.model_fields_set & names):
            value = getattr(place, name)
            if name in said and chosen[name] != value:
                raise conflict(f"{name} is given twice, as {chosen[name]} and as {value}.", name)
            said.add(name)
            chosen[name] = value
    choices = Choices(**chosen)
    _check(choices)
    return choices


def conflict(detail: str, *fields: str) -> ProblemError:
    """Choices that do not go together."""
    return ProblemError("options.conflict", detail, fields=list(fields))


def check_format(choices: Choices, chosen: Format) -> None:
    """Refuse tables of answers that are not vectors."""
    if chosen in ("tsv", "arrow") and not choices.pooled:
        raise conflict(
            f"{chosen} holds one vector a record: choose pooling=mean, cls or max, or take npy or "
            "npz.",
            "format",
            "pooling",
        )


def _check(choices: Choices) -> None:
    if choices.stride and choices.overflow != "window":
        raise conflict("stride is the overlap of windows: add overflow=window.", "stride")
    if choices.pooled:
        if choices.resolution == "base":
            raise conflict(
                "resolution=base gives one row a base, pooling one vector a record: choose one.",
                "resolution",
                "pooling",
            )
        return
    if choices.strand == "both":
        raise conflict(
            "The strands' tokens do not line up, so strand=both is for vectors: add pooling=mean, "
            "cls or max.",
            "strand",
            "pooling",
        )
    if choices.normalize:
        raise conflict("normalize is for vectors: add pooling=mean, cls or max.", "normalize")


def options_from_form(model: type[BaseModel], fields: Mapping[str, str]) -> BaseModel:
    """The options that came as fields of a form.

    Raises:
        ProblemError: 422, as for a query string.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        raise validation_problem(error.errors(include_input=False)) from None
