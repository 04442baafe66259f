"""Many clients of one server at once, and short requests beside a long upload.

Memory is sampled twice a second. Reports name the promises that were broken: an answer other than
200 or 429, a request that hangs, memory that grows, a short request that waits for the upload.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx

from tools.served import Served

# A request that takes longer than this hangs: it is many times what the whole queue takes.
HANG_SECONDS = 60.0
MAX_GROWTH_MIB = 48.0
# Predictions that a short request may wait for beside an upload: those in flight, one turn of the
# upload, its own, and what the machine's scheduler adds.
MAX_WAIT_PREDICTIONS = 10
MIN_WAIT_SECONDS = 0.25


def dna(n_bases: int, generator: random.Random) -> str:
    """Random bases."""
    return "".join(generator.choices("ACGT", k=n_bases))


def fasta(n_records: int, n_bases: int, generator: random.Random) -> str:
    """Random records."""
    return "".join(f">r{number}\n{dna(n_bases, generator)}\n" for number in range(n_records))


def mixed_request(generator: random.Random) -> tuple[str, str]:
    """Path and body: short and full windows, files, vectors and tables, in several formats."""
    kind = generator.choice(("short", "short", "full", "file", "pooled", "json", "long"))
    path = {
        "short": "/features?format=npy",
        "full": "/features?format=npy&overflow=truncate",
        "file": "/embeddings?format=" + generator.choice(("tsv", "arrow", "npz", "json")),
        "pooled": "/embeddings",
        "json": "/features?overflow=truncate",
        "long": "/features?format=npz&overflow=window&stride=50",
    }[kind]
    bases = {"short": 60, "full": 4600, "pooled": 500, "json": 300, "long": 6000}
    body = fasta(20, 120, generator) if kind == "file" else dna(bases[kind], generator)
    return path, body


@dataclass
class LoadReport:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refusals_without_retry_after: int = 0
    growth_mib: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)

    def broken_promises(self) -> list[str]:
        """Empty when all is well."""
        broken = list(self.failures)
        broken += [f"status {each}" for each in self.statuses if each not in (200, 429)]
        if not self.statuses[200]:
            broken.append("nothing was answered")
        if self.refusals_without_retry_after:
            broken.append(f"{self.refusals_without_retry_after} refusals without Retry-After")
        broken += [
            f"the {name} process grew by {mib:.0f} MiB after the first third"
            for name, mib in self.growth_mib.items()
            if mib > MAX_GROWTH_MIB
        ]
        return broken


async def load(
    server: Served, clients: int, seconds: float, seed: int = 0, answers: int = 0
) -> LoadReport:
    """Run `clients` for `seconds`; each sends its next request when the last one has ended.

    Args:
        answers: the least number of answers; on a slow machine it goes on until there are so many.
    """
    report = LoadReport()
    end = time.monotonic() + seconds
    samples: list[tuple[float, dict[str, float]]] = []

    async def sample() -> None:
        while True:
            samples.append((time.monotonic(), server.memory_mib()))
            await asyncio.sleep(0.5)

    async def client(number: int) -> None:
        generator = random.Random(1000 * seed + number)
        async with httpx.AsyncClient(
            base_url=server.url, timeout=HANG_SECONDS, trust_env=False
        ) as http:
            while time.monotonic() < end or report.statuses[200] < answers:
                path, body = mixed_request(generator)
                # Records have ids already; a bare sequence has to say that it is one.
                headers = {} if body.startswith(">") else {"Content-Type": "text/plain"}
                began = time.monotonic()
                try:
                    answer = await http.post(path, content=body, headers=headers)
                except httpx.HTTPError as error:
                    took = time.monotonic() - began
                    report.failures.append(f"{type(error).__name__} after {took:.1f} s: {path}")
                    continue
                report.statuses[answer.status_code] += 1
                report.seconds.append(time.monotonic() - began)
                if answer.status_code == 429:
                    report.refusals_without_retry_after += "retry-after" not in answer.headers
                    # A fraction of what it asks for: the queue has to stay full.
                    await asyncio.sleep(0.1)

    sampler = asyncio.create_task(sample())
    try:
        async with asyncio.timeout(seconds + 2 * HANG_SECONDS):
            await asyncio.gather(*(client(number) for number in range(clients)))
    finally:
        sampler.cancel()
    _judge_memory(report, samples)
    return report


def _judge_memory(report: LoadReport, samples: Sequence[tuple[float, dict[str, float]]]) -> None:
    """Median of the last third against that of the second: the first fills cache and pools."""
    third = len(samples) // 3
    for name in ("server", "model"):
        values = [sample[name] for _, sample in samples]
        report.peak_mib[name] = max(values)
        report.growth_mib[name] = median(values[2 * third :]) - median(values[third : 2 * third])


@dataclass(frozen=True)
class UploadReport:
    """A short request during an upload."""

    records: int
    prediction_seconds: float
    short_seconds: tuple[float, ...]
    upload_seconds: float | None
    answered_during_upload: int

    def broken_promises(self) -> list[str]:
        """Empty when all is well."""
        limit = max(MIN_WAIT_SECONDS, MAX_WAIT_PREDICTIONS * self.prediction_seconds)
        waited = median(self.short_seconds)
        broken = []
        if waited > limit:
            broken.append(f"a short request waited {waited:.3f} s; {limit:.3f} s were allowed")
        if not self.answered_during_upload:
            broken.append("no short request was answered while the upload was computed")
        return broken


async def short_during_upload(
    server: Served, records: int, *, shorts: int = 200, finish: bool = True, seed: int = 1
) -> UploadReport:
    """Send short requests, one after the other, while a file of `records` is computed.

    Args:
        shorts: how many to send while the upload's answer arrives; those before count as well.
        finish: wait for the upload's answer; else leave it after the last short request.
    """
    generator = random.Random(seed)
    body = fasta(records, 400, generator)
    first_byte = asyncio.Event()
    async with httpx.AsyncClient(
        base_url=server.url, timeout=10 * HANG_SECONDS, trust_env=False
    ) as http:
        alone = [await _short(http, generator) for _ in range(10)]
        uploading = asyncio.create_task(_upload(http, body, records, first_byte))
        # The file is being read and tokenized before; that part counts as well.
        await asyncio.sleep(0.05)
        beside: list[float] = []
        during = 0
        while not uploading.done() and during < shorts:
            beside.append(await _short(http, generator))
            during += first_byte.is_set() and not uploading.done()
            await asyncio.sleep(0.02)
        upload_seconds = None
        if finish:
            upload_seconds = await uploading
        else:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
    return UploadReport(records, median(alone), tuple(beside), upload_seconds, during)


async def _short(http: httpx.AsyncClient, generator: random.Random) -> float:
    """Seconds of a request of 60 bases."""
    began = time.perf_counter()
    answer = await http.post(
        "/features?format=npy",
        content=dna(60, generator),
        headers={"Content-Type": "text/plain"},
    )
    answer.raise_for_status()
    return time.perf_counter() - began


async def _upload(
    http: httpx.AsyncClient, body: str, records: int, first_byte: asyncio.Event
) -> float:
    """Seconds until the last row of a FASTA file's table; `first_byte` is set by the first."""
    began = time.perf_counter()
    async with http.stream("POST", "/embeddings?format=tsv", content=body) as answer:
        answer.raise_for_status()
        lines = 0
        async for line in answer.aiter_lines():
            first_byte.set()
            lines += bool(line)
    if lines != records + 1:
        raise RuntimeError(f"{lines} lines for {records} records")
    return time.perf_counter() - began
