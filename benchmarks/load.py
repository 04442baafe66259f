"""Many clients at once: every request ends, memory stays flat, a short one passes a long one?

    python -m benchmarks.load [--bundle FOLDER] [--clients 64] [--seconds 60] [--upload 5000]

Starts a server of its own on a free loopback port, without `--bundle` with a tiny model of random
weights. The exit status is 1 where a promise is broken: an answer other than 200 or 429, a request
that hangs, memory that grows, a short request that waits for a long upload.

Memory is the resident set without the pages of files, sampled twice a second.
"""

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

ROOT = Path(__file__).resolve().parent.parent
# A request that takes longer than this hangs: it is many times what the whole queue takes.
HANG_SECONDS = 60.0
MAX_GROWTH_MIB = 48.0
# Predictions that a short request may wait for beside an upload: those in flight, one turn of the
# upload, its own, and what the machine's scheduler adds.
MAX_WAIT_PREDICTIONS = 10
MIN_WAIT_SECONDS = 0.25
_START_SECONDS = 120.0


@dataclass
class Served:
    """A server that is ready."""

    url: str
    pid: int

    @property
    def model_pid(self) -> int:
        """The process that holds the model: its only child."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return next(int(pid) for task in tasks for pid in task.read_text().split())

    def memory_mib(self) -> dict[str, float]:
        """Of both processes: resident memory that no file stands behind."""
        return {
            name: _anonymous_mib(pid)
            for name, pid in (("server", self.pid), ("model", self.model_pid))
        }


def _anonymous_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def served(bundle: Path, **environment: str) -> Iterator[Served]:
    """`gena serve` of a bundle on a free port, ready; ended by SIGTERM."""
    command = [sys.executable, "-m", "app.cli", "serve", "--bundle", str(bundle), "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GENA_")}
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "GENA_THREADS": "1", **environment}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**kept, **settings}, stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            yield Served(_wait_until_ready(process, log.fileno()), process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    url = None
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        text = os.pread(log, 2**16, 0).decode()
        found = re.search(r"listening on (http://[^\s\"]+)", text)
        if found:
            url = found[1]
            if httpx.get(f"{url}/health").status_code == 200:
                return url
    raise RuntimeError(f"the server was not ready:\n{os.pread(log, 2**16, 0).decode()[-3000:]}")


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


async def load(server: Served, clients: int, seconds: float, seed: int = 0) -> LoadReport:
    """Run `clients` for `seconds`; each sends its next request when the last one has ended."""
    report = LoadReport()
    end = time.monotonic() + seconds
    samples: list[tuple[float, dict[str, float]]] = []

    async def sample() -> None:
        while True:
            samples.append((time.monotonic(), server.memory_mib()))
            await asyncio.sleep(0.5)

    async def client(number: int) -> None:
        generator = random.Random(1000 * seed + number)
        async with httpx.AsyncClient(base_url=server.url, timeout=HANG_SECONDS) as http:
            while time.monotonic() < end:
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
    plain = {"Content-Type": "text/plain"}

    async with httpx.AsyncClient(base_url=server.url, timeout=10 * HANG_SECONDS) as http:

        async def short() -> float:
            began = time.perf_counter()
            answer = await http.post(
                "/features?format=npy", content=dna(60, generator), headers=plain
            )
            answer.raise_for_status()
            return time.perf_counter() - began

        alone = [await short() for _ in range(10)]
        began = time.perf_counter()
        first_byte = asyncio.Event()

        async def upload() -> float:
            async with http.stream("POST", "/embeddings?format=tsv", content=body) as answer:
                answer.raise_for_status()
                lines = 0
                async for line in answer.aiter_lines():
                    first_byte.set()
                    lines += bool(line)
            if lines != records + 1:
                raise RuntimeError(f"{lines} lines for {records} records")
            return time.perf_counter() - began

        uploading = asyncio.create_task(upload())
        # The file is being read and tokenized before; that part counts as well.
        await asyncio.sleep(0.05)
        beside: list[float] = []
        during = 0
        while not uploading.done() and during < shorts:
            beside.append(await short())
            during += first_byte.is_set() and not uploading.done()
            await asyncio.sleep(0.02)
        upload_seconds = None
        if finish:
            upload_seconds = await uploading
        else:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
    return UploadReport(records, median(alone), tuple(beside), upload_seconds, during)


def _print_load(report: LoadReport, clients: int, seconds: float) -> None:
    taken = sorted(report.seconds)
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(report.statuses.items()))
    print(f"{clients} clients for {seconds:g} s: {statuses}; {len(report.failures)} failures")
    if taken:
        last = taken[min(len(taken) - 1, int(0.99 * len(taken)))]
        print(f"  seconds: median {median(taken):.3f}, 99 % {last:.3f}, longest {taken[-1]:.3f}")
    for name, growth in report.growth_mib.items():
        peak = report.peak_mib[name]
        print(f"  {name} process: peak {peak:.0f} MiB, last third {growth:+.1f} MiB on the second")


def _print_upload(report: UploadReport) -> None:
    waited = median(report.short_seconds)
    print(
        f"upload of {report.records} records: {report.upload_seconds or 0:.1f} s; beside it "
        f"{len(report.short_seconds)} short requests\n"
        f"  median {1000 * waited:.0f} ms, longest {1000 * max(report.short_seconds):.0f} ms, "
        f"alone {1000 * report.prediction_seconds:.0f} ms: "
        f"{waited / report.prediction_seconds:.1f} times"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and say what was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: a tiny model, built here")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--upload", type=int, default=5000, help="records of the upload")
    parser.add_argument(
        "--queue-tokens",
        default="16384",
        help="small by default (32 requests), so that some are refused",
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle
        if bundle is None:
            from tests.support.bundles import build_small

            bundle = build_small(Path(folder) / "bundle").path
        with served(bundle, GENA_QUEUE_TOKENS=arguments.queue_tokens) as server:
            upload = asyncio.run(short_during_upload(server, arguments.upload))
            _print_upload(upload)
            report = asyncio.run(load(server, arguments.clients, arguments.seconds))
            _print_load(report, arguments.clients, arguments.seconds)
    broken = [*upload.broken_promises(), *report.broken_promises()]
    for promise in broken[:20]:
        print(f"BROKEN: {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
