"""A service that runs, here or elsewhere: windows as FASTA to `POST /embeddings`, Arrow back."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import pyarrow as pa

from app.embed.embedder import Job, OnAnswers, OnStep
from app.embed.errors import InputError, TryAgainError
from app.embed.planning import text_of
from app.embed.sequences import Sequences
from app.embed.shards import Answer
from app.embed.threads import Threads
from app.headers import FINGERPRINT
from app.requests.bodies import check_wanted
from app.requests.options import Choices
from converter.errors import brief

# One request: so many windows, of so many bases together, or one window.
_MOST_WINDOWS, _MOST_BASES = 256, 500_000
# Requests at a time, so that the service has one while the answer of another travels.
_AT_ONCE = 2
_NO_SERVICE = "answers, but is no gena-coreml. Look at the port of gena serve."
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TIMEOUT_SECONDS = 900.0
_FIRST_PAUSE, _LONGEST_PAUSE, _MOST_FAILURES = 0.5, 30.0, 8
# What a service may say that it wants to be left alone.
_LONGEST_TOLD = 600.0
# Of the first contact: a mistyped address is heard of soon.
_FIRST_FAILURES = 3
_WORTH_ANOTHER_TRY = {408, 429, 502, 503, 504}


class _UnansweredError(Exception):
    """A request that is worth another try; `pause` in seconds, where the service said so."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class _Part:
    """A request: the index of each of its windows in the job, their bases, and the body."""

    indices: list[int]
    n_bases: list[int]
    body: bytes


class RemoteService:
    """See `Embedder`.

    Args:
        url: of the service, such as http://127.0.0.1:8000.
        api_key: where it wants one.
        on_step: told of what is tried again.
    """

    def __init__(
        self, url: str, choices: Choices, api_key: str | None, threads: Threads, on_step: OnStep
    ) -> None:
        self.sequences: Sequences | None = None
        self.model = self.fingerprint = ""
        self.hidden_size = self.window = 0
        self._url = url.rstrip("/")
        self._query = urlencode(
            {
                "format": "arrow",
                "pooling": choices.pooling,
                "overflow": "window",
                "stride": choices.stride,
                "strand": choices.strand,
                "normalize": str(choices.normalize).lower(),
                "dtype": choices.dtype,
                "ambiguous": "accept",
                "on_error": "skip",
            }
        )
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # What a system says of proxies is not for one's own machine.
        own = urlsplit(self._url).hostname in _LOOPBACK
        self._opener: OpenerDirector = build_opener(*([ProxyHandler({})] if own else []))
        self._threads = threads
        self._on_step = on_step
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ready(self) -> None:
        """Ask the service what it is.

        Raises:
            TryAgainError: it does not answer, or is not ready. InputError: it is something else.
        """
        content, _ = await self._until_answered("/health", None, _FIRST_FAILURES)
        try:
            health = json.loads(content)
            self.model, self.fingerprint = str(health["model"]), str(health["fingerprint"])
            content, _ = await self._until_answered("/info", None)
            info = json.loads(content)
            self.hidden_size = int(info["bundle"]["config"]["hidden_size"])
            self.window = int(info["limits"]["tokens_per_window"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._url} {_NO_SERVICE}") from error

    async def prepare(self, job: Job) -> tuple[Job, list[_Part]]:
        """See `Embedder`."""
        return job, await self._threads.run(lambda: list(self._parts(job)))

    async def compute(
        self, prepared: tuple[Job, list[_Part]], on_answers: OnAnswers
    ) -> list[Answer]:
        """See `Embedder`."""
        job, parts = prepared
        answers: dict[int, Answer] = {}

        async def post(part: _Part) -> None:
            async with self._turns:
                answers.update(await self._post(part))
                on_answers(len(part.indices), sum(part.n_bases))

        tasks = [asyncio.create_task(post(part)) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [answers[index] for index in range(len(job.rows))]

    def _parts(self, job: Job) -> Iterator[_Part]:
        assert self.sequences is not None
        indices: list[int] = []
        sizes: list[int] = []
        records: list[str] = []
        for index, row in job.by_length():
            full = len(indices) >= _MOST_WINDOWS or sum(sizes) + row.n_bases > _MOST_BASES
            if indices and full:
                yield _Part(indices, sizes, gzip.compress("".join(records).encode(), 1))
                indices, sizes, records = [], [], []
            check_wanted(self._threads.stop)
            indices.append(index)
            sizes.append(row.n_bases)
            records.append(f">{index}\n{text_of(self.sequences, row)}\n")
        yield _Part(indices, sizes, gzip.compress("".join(records).encode(), 1))

    async def _post(self, part: _Part) -> dict[int, Answer]:
        read: Callable[[bytes], dict[int, Answer]] = _read_answers
        for attempt in range(_MOST_FAILURES):
            content, fingerprint = await self._until_answered(
                f"/embeddings?{self._query}", part.body
            )
            if fingerprint != self.fingerprint:
                raise InputError(
                    f"{self._url} has another model now (fingerprint {fingerprint}). Shards that "
                    "are there stay with the one before; take a new folder for the new one."
                )
            try:
                answers = read(content)
            except (pa.ArrowException, OSError, AttributeError, KeyError, TypeError, ValueError):
                await asyncio.sleep(_FIRST_PAUSE * 2**attempt)  # cut off on its way
                continue
            if answers.keys() == set(part.indices):
                return answers
        raise TryAgainError(f"The answers of {self._url} do not arrive whole.")

    async def _until_answered(
        self, path: str, body: bytes | None, most_failures: int = _MOST_FAILURES
    ) -> tuple[bytes, str | None]:
        """The content of an answer and the fingerprint in its header."""
        failures = 0
        while True:
            try:
                return await asyncio.to_thread(self._ask, path, body)
            except _UnansweredError as error:
                failures += 1
                if failures >= most_failures:
                    raise TryAgainError(
                        f"{self._url} does not answer ({error}). Is it running? The same command "
                        "goes on from here."
                    ) from error
                self._on_step(f"{self._url} does not answer ({error}); trying again.")
                pause = min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE)
                await asyncio.sleep(pause if error.pause is None else error.pause)

    def _ask(self, path: str, body: bytes | None) -> tuple[bytes, str | None]:
        headers = dict(self._headers)
        if body is not None:
            headers |= {"Content-Type": "text/x-fasta", "Content-Encoding": "gzip"}
        request = Request(self._url + path, body, headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return answer.read(), answer.headers.get(FINGERPRINT)
        except HTTPError as error:
            reason = _reason(error)
            if error.code in _WORTH_ANOTHER_TRY:
                said = error.headers.get("Retry-After", "")
                pause = min(float(said), _LONGEST_TOLD) if said.isdecimal() else None
                raise _UnansweredError(reason, pause) from None
            if error.code == HTTPStatus.NOT_FOUND:  # all that is asked for is there
                raise InputError(f"{self._url} {_NO_SERVICE}") from None
            raise InputError(f"{self._url} refuses this: {reason}") from None
        except (URLError, HTTPException, OSError) as error:
            raise _UnansweredError(brief(str(getattr(error, "reason", error)))) from None
        except ValueError:
            raise InputError(f"{self._url} is no address of a service.") from None


def _reason(error: HTTPError) -> str:
    try:
        return brief(json.loads(error.read())["detail"], 300)
    except (ValueError, KeyError, TypeError, OSError):
        return f"status {error.code}"


def _read_answers(content: bytes) -> dict[int, Answer]:
    """Answers by the index of their windows; skipped ones have a problem.

    Raises:
        pyarrow.ArrowException: it was cut off; AttributeError, KeyError, TypeError, ValueError: it
            is something else.
    """
    with pa.ipc.open_stream(content) as stream:
        metadata: dict[bytes, bytes] = stream.schema.metadata
        table = stream.read_all()
    features = table.column("features").combine_chunks()
    values = features.flatten().to_numpy().reshape(len(table), features.type.list_size)
    rows: Any = zip(
        table.column("id").to_pylist(), table.column("n_tokens").to_pylist(), values, strict=True
    )
    answers = {int(id_): Answer(vector, n_tokens) for id_, n_tokens, vector in rows}
    for skipped in json.loads(metadata[b"skipped"]):
        answers[int(skipped["id"])] = Answer(None, problem=skipped["code"])
    return answers
