"""The model of this machine, started and supervised as the service does it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np

from app.embed.embedder import Job, OnAnswers, OnStep
from app.embed.errors import InputError, TryAgainError
from app.embed.planning import text_of
from app.embed.sequences import Sequences
from app.embed.shards import Answer, Bases
from app.embed.threads import Threads
from app.embed.windows import Row
from app.errors import ProblemError
from app.inference.cache import WindowCache
from app.inference.engine import Block, Features, Predictor, feature_blocks
from app.inference.merging import own_span
from app.inference.prepare import prepare
from app.inference.records import PreparedRequest, Record
from app.metrics import Metrics
from app.model.lifecycle import Lifecycle, ServedModel
from app.model.state import ModelUnavailableError, State
from app.requests.limits import Limits
from app.requests.options import Choices
from app.requests.submitted import Submitted
from app.settings import Settings
from converter.tokenizer import DnaTokenizer

_POLL_SECONDS = 0.1
# A window with which the model died so often is what it dies of.
_MOST_DEATHS = 3
_DIED_TOO_OFTEN = "model.crashing"
# Of one window; the rest of the job goes on.
_OF_A_WINDOW = frozenset({"dtype.overflow", "model.error", "model.not_finite"})
_MANY = 2**62


@dataclass
class PreparedJob:
    """A job whose letters are tokens; `request` is None where no row is left to compute."""

    job: Job
    request: PreparedRequest | None
    answers: dict[int, Answer]


class LocalModel:
    """See `Embedder`. Made by `local_model`."""

    def __init__(
        self, lifecycle: Lifecycle, settings: Settings, choices: Choices, threads: Threads
    ) -> None:
        self.sequences: Sequences | None = None
        self.model = self.fingerprint = ""
        self.hidden_size = self.window = 0
        self._lifecycle = lifecycle
        self._settings = settings
        self._choices = replace(choices, on_error="skip", ambiguous="accept")
        self._cache = WindowCache(settings.cache_bytes)
        self._threads = threads
        # Where the model fails for dying too often. An answer shows that it works.
        self._may_try_again = False

    async def ready(self, on_step: OnStep) -> DnaTokenizer:
        """Wait until the model answers; its tokenizer.

        Raises:
            TryAgainError, InputError: it will not.
        """
        model = await self._ready_model(on_step)
        self._may_try_again = True
        self.model = model.manifest.model
        self.fingerprint = model.fingerprint
        self.hidden_size = model.manifest.hidden_size
        self.window = model.manifest.window
        return model.tokenizer

    async def prepare(self, job: Job) -> PreparedJob:
        """See `Embedder`."""
        model = await self._ready_model()
        if model.fingerprint != self.fingerprint:
            raise InputError(
                "The bundle was replaced by another while it was used. Shards that are there stay "
                "with the one before; take a new folder for the new one."
            )
        return await self._threads.run(partial(self._prepare, job, model.tokenizer))

    async def compute(self, prepared: PreparedJob, on_answers: OnAnswers) -> list[Answer]:
        """See `Embedder`."""
        request, answers, rows = prepared.request, prepared.answers, prepared.job.rows
        deaths: Counter[str] = Counter()
        try:
            while request is not None and (left := _left(request, answers, deaths)):
                part = replace(request, records=left)
                try:
                    async with aclosing(self._answers(part, rows)) as computed:
                        async for index, answer in computed:
                            answers[index] = answer
                            self._may_try_again = True
                            on_answers(1, rows[index].n_bases)
                except ProblemError as error:
                    _settle(error, deaths, answers)
                except ModelUnavailableError as error:
                    self._after_failure(error.state)
        finally:
            if prepared.request is not None:
                prepared.request.close()
        return [answers[index] for index in range(len(rows))]

    async def _ready_model(self, on_step: OnStep = lambda _text: None) -> ServedModel:
        """The model, waited for while it is converted, loaded or started again."""
        while True:
            state = self._lifecycle.state
            if state.status == "failed":
                self._after_failure(state)
                continue
            if state.status == "ready":
                return self._lifecycle.ready_model()
            on_step(state.message)
            await asyncio.sleep(_POLL_SECONDS)

    def _after_failure(self, state: State) -> None:
        """Start the model again where it may be that only some windows are too much for it.

        Raises:
            TryAgainError, InputError: it failed for another reason, or again without an answer.
        """
        if state.code == _DIED_TOO_OFTEN and self._may_try_again:
            self._may_try_again = False
            self._lifecycle.retry()
            return
        message = f"{state.message} {state.advice or ''}".strip()
        raise (InputError if state.lasting else TryAgainError)(message)

    def _prepare(self, job: Job, tokenizer: DnaTokenizer) -> PreparedJob:
        limits = Limits(_MANY, self._settings.max_record_bases, _MANY, _MANY)
        answers: dict[int, Answer] = {}
        try:
            request = prepare(
                self._submitted(job),
                tokenizer,
                self._choices,
                limits,
                single=False,
                stop=self._threads.stop,
            )
        except ProblemError as error:
            if error.code != "records.all_skipped":
                raise
            skipped = {int(each["id"]): each["code"] for each in error.members["skipped"]}
            answers = {index: Answer(None, problem=code) for index, code in skipped.items()}
            return PreparedJob(job, None, answers)
        for each in request.skipped:
            answers[int(each.id)] = Answer(None, problem=each.code)
        return PreparedJob(job, request, answers)

    def _submitted(self, job: Job) -> Iterator[Submitted]:
        assert self.sequences is not None
        for index, row in job.by_length():
            yield Submitted(str(index), text_of(self.sequences, row))

    async def _answers(
        self, request: PreparedRequest, rows: Sequence[Row]
    ) -> AsyncGenerator[tuple[int, Answer], None]:
        collected = _Collected(request)
        model = await self._ready_model()
        async with model.open_flow(self._settings.deadline_seconds) as flow:
            predictor = Predictor(flow, self._cache, self.fingerprint, model.tokenizer)
            async with aclosing(feature_blocks(request, predictor)) as blocks:
                async for block in blocks:
                    answer = collected.add(block, rows)
                    if answer is not None:
                        yield int(block.record.id), answer


class _Collected:
    """Puts the blocks of records together."""

    def __init__(self, request: PreparedRequest) -> None:
        self._request = request
        self._parts: list[Features] = []

    def add(self, block: Block, rows: Sequence[Row]) -> Answer | None:
        """The answer of a record, with its last block."""
        record = block.record
        if self._request.choices.pooled:
            return Answer(block.values, record.n_tokens)
        strand = record.strands[0]
        if block.first:
            self._parts = []
        window = strand.windows[len(self._parts)]
        self._parts.append(block.values[own_span(window)])
        if not block.last:
            return None
        row = rows[int(record.id)]
        start, end = self._places(record, row)
        return Answer(cast(Features, np.concatenate(self._parts)), record.n_tokens, start, end)

    def _places(self, record: Record, row: Row) -> tuple[Bases, Bases]:
        strand = record.strands[0]
        offsets = strand.offsets(self._request.store, 0, strand.own_tokens)
        if row.strand == "+":
            return row.start + offsets[:, 0], row.start + offsets[:, 1]
        return row.end - offsets[:, 1], row.end - offsets[:, 0]


@asynccontextmanager
async def local_model(
    settings: Settings, choices: Choices, threads: Threads
) -> AsyncIterator[LocalModel]:
    """Start the model; it is converted first where that is needed. It ends with the block."""
    lifecycle = Lifecycle(settings, Metrics())
    lifecycle.start()
    try:
        yield LocalModel(lifecycle, settings, choices, threads)
    finally:
        await lifecycle.stop()


def _left(
    request: PreparedRequest, answers: dict[int, Answer], deaths: Counter[str]
) -> list[Record]:
    """What is computed next: all that is left but for those that the model died of.

    When the others have their vectors, each of those is tried alone: what is well is not told
    from what is not by a model that dies of several in a row.
    """
    left = [record for record in request.records if int(record.id) not in answers]
    return [record for record in left if not deaths[record.id]] or left[:1]


def _settle(error: ProblemError, deaths: Counter[str], answers: dict[int, Answer]) -> None:
    """Give the window that a problem is of its code, where it has that for good."""
    culprit = error.members.get("record")
    if error.code == "model.crashed" and culprit is not None:
        deaths[culprit] += 1
    lasting = error.code in _OF_A_WINDOW or deaths[str(culprit)] >= _MOST_DEATHS
    if error.code not in {*_OF_A_WINDOW, "model.crashed"}:
        raise TryAgainError(f"{error.detail} The same command goes on from here.") from error
    if lasting and culprit is not None:
        answers[int(culprit)] = Answer(None, problem=error.code)
