"""What a request may choose: the options, their defaults, and which do not go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from app.errors import ProblemError
from app.requests.validation import validation_problem

Pooling = Literal["none", "mean", "cls", "max"]
VectorPooling = Literal["mean", "cls", "max"]
Overflow = Literal["error", "truncate", "window"]
Vectors = Literal["record", "window"]
Ids = Literal["none", "header"]
Strand = Literal["forward", "reverse", "both"]
Resolution = Literal["token", "base"]
DType = Literal["float32", "float16", "float64"]
Format = Literal["json", "npy", "npz", "tsv", "arrow"]
Ambiguous = Literal["error", "accept"]
OnError = Literal["error", "skip"]

# Of an answer whose request says nothing, nor has an Accept header.
DEFAULT_FORMAT: Format = "json"

# Pydantic's context of values that have JSON's types; those of queries and forms are all text.
FROM_JSON = {"types": "JSON"}
# Of an object that are looked at; more than any schema here knows, by more than are told of.
_MOST_FIELDS = 64


@dataclass(frozen=True)
class Choices:
    """What a request asks for, from all the places where it may say so.

    The defaults of all options stand here; a route that has another one says so in its options.

    Attributes:
        format: None leaves it to the Accept header.
    """

    pooling: Pooling = "none"
    overflow: Overflow = "error"
    stride: int = 0
    vectors: Vectors = "record"
    strand: Strand = "forward"
    normalize: bool = False
    resolution: Resolution = "token"
    dtype: DType = "float32"
    ambiguous: Ambiguous = "error"
    on_error: OnError = "error"
    ids: Ids = "none"
    format: Format | None = None

    @property
    def pooled(self) -> bool:
        """Whether the answer is vectors, of records or windows."""
        return self.pooling != "none"

    @property
    def by_window(self) -> bool:
        """Whether there is a vector a window."""
        return self.vectors == "window"


def _is_text(value: Any, info: ValidationInfo) -> TypeGuard[str]:
    return isinstance(value, str) and info.context is not FROM_JSON


def _switch(value: Any, info: ValidationInfo) -> Any:
    """Validator: in queries and forms, which hold text, "true" is True."""
    if _is_text(value, info):
        return {"true": True, "false": False}.get(value, value)
    return value


def whole_number(value: Any, info: ValidationInfo) -> Any:
    """Validator: 3.0, and in queries and forms "3", is 3; the rest is left to the field."""
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number
    if _is_text(value, info) and value.isascii() and value.isdigit():
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
        description="For records of more tokens, [CLS] and [SEP] included, than a window of the "
        "model has (`tokens_per_window` of /info). `error`: refuse them. `truncate`: use what fits "
        "in the first window and say what was cut. `window`: cut them into windows, each with its "
        "own [CLS] and [SEP]."
    ),
]
StrideField = Annotated[
    int,
    Field(
        ge=0,
        strict=True,
        description="With `overflow=window`: the sequence's own tokens that neighbouring windows "
        "share (an overlap, as `stride` in transformers' tokenizers); at most 3 fewer than a "
        "window of the model has.",
    ),
    BeforeValidator(whole_number),
]
VectorsField = Annotated[
    Vectors,
    Field(
        description="`window`: one vector a window, over all of its tokens, with the bases that it "
        "covers; needs pooling. `record`: one vector a record."
    ),
]
IdsField = Annotated[
    Ids,
    Field(
        description="`header`: the answer has the header X-Gena-Ids, the records' ids with commas "
        "between them, percent-encoded; for `npy`, which has no place for them."
    ),
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
DTypeField = Annotated[
    DType,
    Field(
        description="Type of the numbers in the answer. `float64`, the same numbers for readers "
        "that know no other, is for `npy`, `npz` and `arrow`."
    ),
]
AmbiguousField = Annotated[
    Ambiguous,
    Field(
        description="`error`: refuse a record of which more than a third of the letters are none "
        "of A C G T U N: it is most likely a protein. `accept`: take it for DNA."
    ),
]
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


class Strict(BaseModel):
    """Knows its fields and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _look_at_some(cls, value: Any) -> Any:
        """Leave out what would only add to a long list of unknown fields."""
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            return dict(islice(value.items(), _MOST_FIELDS))
        return value


class FeaturesOptions(Strict):
    """Choices of `POST /features`."""

    pooling: PoolingField = Choices.pooling
    overflow: OverflowField = Choices.overflow
    stride: StrideField = Choices.stride
    vectors: VectorsField = Choices.vectors
    strand: StrandField = Choices.strand
    normalize: NormalizeField = Choices.normalize
    resolution: ResolutionField = Choices.resolution
    dtype: DTypeField = Choices.dtype
    ambiguous: AmbiguousField = Choices.ambiguous
    on_error: OnErrorField = Choices.on_error
    ids: IdsField = Choices.ids
    format: FormatField = DEFAULT_FORMAT


class VectorOptions(Strict):
    """Choices wherever the answer is one vector a record."""

    pooling: VectorPoolingField = "mean"
    overflow: OverflowField = Choices.overflow
    stride: StrideField = Choices.stride
    strand: StrandField = Choices.strand
    normalize: NormalizeField = Choices.normalize
    ambiguous: AmbiguousField = Choices.ambiguous


class EmbeddingsOptions(VectorOptions):
    """Choices of `POST /embeddings`."""

    vectors: VectorsField = Choices.vectors
    dtype: DTypeField = Choices.dtype
    on_error: OnErrorField = Choices.on_error
    ids: IdsField = Choices.ids
    format: FormatField = DEFAULT_FORMAT


class TokenizeOptions(Strict):
    """Choices of `POST /tokenize`."""

    ambiguous: AmbiguousField = Choices.ambiguous
    on_error: OnErrorField = Choices.on_error


def choose(*places: BaseModel) -> Choices:
    """Merge the options of the query string, the form and the body.

    Args:
        places: the defaults of the first one hold where none of them says otherwise.

    Raises:
        ProblemError: two places disagree (options.conflict), or two choices do.
    """
    names = sorted(Choices.__dataclass_fields__)
    # Without format: where nobody names one, the Accept header does.
    defaults = places[0].model_dump(include=set(names) - {"format"})
    said: dict[str, Any] = {}
    for place in places:
        for name in names:
            if name not in place.model_fields_set:
                continue
            value = getattr(place, name)
            if said.setdefault(name, value) != value:
                raise conflict(f"{name} is given twice, as {said[name]} and as {value}.", name)
    choices = Choices(**defaults | said)
    _check(choices)
    return choices


def conflict(detail: str, *fields: str) -> ProblemError:
    """Choices that do not go together."""
    return ProblemError("options.conflict", detail, fields=list(fields))


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
        if choices.by_window and choices.strand == "both":
            raise conflict(
                "The strands' windows do not line up, so vectors=window is for one of them.",
                "vectors",
                "strand",
            )
        return
    if choices.by_window:
        raise conflict(
            "vectors=window is for vectors: add pooling=mean, cls or max. Without pooling, "
            "overflow=window alone gives every window's rows.",
            "vectors",
            "pooling",
        )
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
