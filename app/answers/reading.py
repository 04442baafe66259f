"""How a route reads its requests: what a body holds and chooses, and which writer answers it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader
from typing import Protocol

from pydantic import BaseModel

from app.answers.exchange import Exchange
from app.answers.negotiation import negotiate
from app.answers.openai_writer import OpenAIWriter
from app.answers.registry import WRITERS
from app.answers.tokens_writer import TokensWriter
from app.answers.writer import AnswerPlan, Writer
from app.errors import ProblemError
from app.model.lifecycle import OpenedModel
from app.requests.bodies import ReceivedBody
from app.requests.limits import Limits
from app.requests.options import Choices, TokenizeOptions, choose, conflict, options_from_form
from app.requests.schemas import OpenAIEmbeddingsBody, SubmittedSequences, TokenizeBody
from app.requests.sequences import Submission, read_only_json, read_submission
from app.requests.submitted import Submitted, SubmittedIds


@dataclass(frozen=True)
class Reading:
    """What a request asks for.

    Attributes:
        records: to be read once, in order, while the body is open.
        single: one bare sequence, answered by itself.
        writer: of the answer.
    """

    records: Iterable[Submitted | SubmittedIds]
    choices: Choices
    single: bool
    writer: Callable[[AnswerPlan], Writer]


class Reader(Protocol):
    """How a route reads its requests."""

    def read(self, exchange: Exchange, received: ReceivedBody, file: BufferedReader) -> Reading:
        """What the body asks for. Runs in a thread.

        Args:
            file: the decoded body.

        Raises:
            ProblemError: what is wrong with the body as a whole, or with the options.
        """
        ...


@dataclass(frozen=True)
class SequencesReader:
    """Sequences whose features or vectors are wanted.

    Attributes:
        options: of the query string; the fields of a form are checked with its type.
        schema: of a JSON body.
        always_list: answer records also for a single bare sequence.
    """

    options: BaseModel
    schema: type[SubmittedSequences]
    always_list: bool = False

    def read(self, exchange: Exchange, received: ReceivedBody, file: BufferedReader) -> Reading:
        submission, choices = _read_sequences(
            self.options, self.schema, exchange.limits, received, file
        )
        chosen = choices.format or negotiate(exchange.accept)
        writer = WRITERS[chosen]
        if writer.needs_pooling and not choices.pooled:
            raise conflict(
                f"{chosen} holds one vector a record: choose pooling=mean, cls or max, or take "
                "npy or npz.",
                "format",
                "pooling",
            )
        if writer.is_text and choices.dtype == "float64":
            raise conflict(
                f"dtype=float64 is for npy, npz and arrow; {chosen} has its numbers as text.",
                "format",
                "dtype",
            )
        single = submission.single and not self.always_list
        return Reading(writer.checked(submission.records), choices, single, writer)


@dataclass(frozen=True)
class TokenizeReader:
    """Sequences whose tokens are wanted, of any length: to count is what this is for."""

    options: TokenizeOptions

    def read(self, exchange: Exchange, received: ReceivedBody, file: BufferedReader) -> Reading:
        submission, choices = _read_sequences(
            self.options, TokenizeBody, exchange.limits, received, file
        )
        choices = replace(choices, overflow="window")
        return Reading(submission.records, choices, submission.single, TokensWriter)


class OpenAIReader:
    """What OpenAI's clients send: texts, or lists of token ids."""

    def read(self, exchange: Exchange, received: ReceivedBody, file: BufferedReader) -> Reading:
        body = read_only_json(received, OpenAIEmbeddingsBody, file, exchange.limits)
        check_model(body.model, exchange.model)
        _check_dimensions(body, exchange.model)
        choices = choose(body)
        writer = partial(OpenAIWriter, model=body.model, as_base64=body.encoding_format == "base64")
        return Reading(_inputs(body, choices), choices, single=False, writer=writer)


def _read_sequences(
    options: BaseModel,
    schema: type[SubmittedSequences],
    limits: Limits,
    received: ReceivedBody,
    file: BufferedReader,
) -> tuple[Submission, Choices]:
    """A body of sequences, and the choices of query, form and body together."""
    places = [options]
    if received.fields:
        places.append(options_from_form(type(options), received.fields))
    submission = read_submission(received, schema, file, limits)
    if submission.body is not None:
        places.append(submission.body)
    return submission, choose(*places)


def check_model(name: str, model: OpenedModel) -> None:
    """Raise 404 model.unknown unless a model of this name is served, with its owner or without."""
    served = model.name
    if name not in (served, served.rpartition("/")[2]):
        raise ProblemError("model.unknown", f"Served is {served}.", param="model")


def _check_dimensions(body: OpenAIEmbeddingsBody, model: OpenedModel) -> None:
    hidden_size = model.hidden_size
    if body.dimensions not in (None, hidden_size):
        raise ProblemError(
            "request.invalid",
            f"dimensions: this model's vectors have {hidden_size}; they are not shortened.",
            param="dimensions",
            limit=hidden_size,
        )


def _inputs(body: OpenAIEmbeddingsBody, choices: Choices) -> Iterator[Submitted | SubmittedIds]:
    """The inputs as records 1, 2, ...; the schema has made sure that they are all of one kind."""
    given = body.input
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    if not isinstance(inputs[0], str):
        if body.token_ids == "error":
            raise ProblemError("tokens.refused", param="input")
        if choices.strand != "forward":
            raise conflict(
                "Token ids have one direction: strand must be forward.", "strand", "input"
            )
    return (
        Submitted(str(number), each) if isinstance(each, str) else SubmittedIds(str(number), each)
        for number, each in enumerate(inputs, start=1)
    )
