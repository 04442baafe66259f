"""What the service adds to a prediction: time from request to answer over the bare prediction.

    python -m benchmarks.service [--bundle FOLDER] [--rounds N] [--threads N] [--json]

The reference is the same `runtime.predict` on the same window, in a process of its own that does
nothing else. It is measured in turns with the requests, so that what else the machine does
meets both; medians are compared. The cache is off, but for the rows that say so. Requests go over
a kept connection on loopback, by the standard library's client; answers are received whole, not
decoded. (httpx, which takes a body in pieces of 64 kB, would add some 4 ms of its own to 1.5 MB.)

With several clients at once the model is the bottleneck: a request's time is compared with that of
as many predictions as there are clients, one after the other.

`around` is the rest of a request beside its own prediction, as its Server-Timing has that: steadier
than `over` where other programs use the machine, but it trusts the service's own clock.

The exit status is 1 where the median for one client is over its limit: npy 5 ms, JSON 25 ms.
"""

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from app.model.performance import SpareMemory
from converter.bundle.location import bundles_root, default_bundle_folder
from converter.bundle.opening import open_bundle
from converter.runtime.loading import load_runtime
from converter.tokenizer import SPECIALS, DnaTokenizer
from tools.seeded_checkpoints import seeded_bundle
from tools.served import served, told_as_served

# Where `gena convert --model gena-mini` puts it.
MINI = default_bundle_folder("gena-mini", None, bundles_root(None))
LIMIT_MS = {"npy": 5.0, "json": 25.0}
PLAIN = {"Content-Type": "text/plain"}


@dataclass(frozen=True)
class Row:
    """Medians in milliseconds; `ratio` is the answer's over the bare prediction's."""

    what: str
    tokens: int
    clients: int
    bare_ms: float
    answer_ms: float
    over_ms: float
    around_ms: float | None
    ratio: float
    limit_ms: float | None


def _predict_bare(bundle: Path, threads: int, channel: Connection) -> None:
    """In a child: windows in, seconds of their predictions out."""
    opened = open_bundle(bundle)
    runtime = load_runtime(opened, threads=threads)
    runtime.warm_up()
    SpareMemory()
    channel.send(runtime.name)
    while (window := channel.recv()) is not None:
        began = time.perf_counter()
        runtime.predict([window])
        channel.send(time.perf_counter() - began)


class Bare:
    """The reference: a process that only predicts."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self.runtime: str = channel.recv()

    def seconds(self, window: np.ndarray) -> float:
        """Of one prediction of (n,) ids with specials."""
        self._channel.send(window)
        taken: float = self._channel.recv()
        return taken


@contextmanager
def bare_process(bundle: Path, threads: int) -> Iterator[Bare]:
    """Spawned, as the service's own model process is."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_predict_bare, args=(bundle, threads, theirs), daemon=True)
    with told_as_served():
        process.start()
    theirs.close()  # so that its end is noticed here, whatever it ends of
    try:
        yield Bare(ours)
        ours.send(None)
    finally:
        process.join(10)
        process.kill()


def sequence_of(tokenizer: DnaTokenizer, n_tokens: int, seed: int) -> str:
    """DNA that gives exactly `n_tokens` tokens, without specials.

    Raises:
        RuntimeError: none was found; the tokenizer is a strange one.
    """
    generator = np.random.default_rng(seed)
    while True:
        text = "".join(generator.choice(list("ACGT"), 12 * n_tokens))
        # The end of a token of a longer text can be merged otherwise when the text ends there.
        for end in tokenizer.encode(text).offsets[n_tokens - 1 : n_tokens + 40, 1]:
            if len(tokenizer.encode(text[: int(end)]).ids) == n_tokens:
                return text[: int(end)]
        seed += 1
        if seed > 10_000:
            raise RuntimeError(f"no sequence of {n_tokens} tokens was found")


class Bench:
    """One server, one reference, and the clients."""

    def __init__(self, url: str, bare: Bare, tokenizer: DnaTokenizer, rounds: int) -> None:
        self._address = url.removeprefix("http://")
        self._bare = bare
        self._tokenizer = tokenizer
        self._rounds = rounds
        self._seed = 0

    def _sequence(self, n_tokens: int) -> str:
        self._seed += 1
        return sequence_of(self._tokenizer, n_tokens, 1000 * self._seed)

    def _bare_seconds(self, sequence: str) -> float:
        return self._bare.seconds(self._tokenizer.window(self._tokenizer.encode(sequence).ids))

    def one(self, what: str, n_tokens: int, *, cached: bool = False) -> Row:
        """One client; the prediction and the request in turns, first one, then the other first."""
        bare, answers, around = [], [], []
        sequence = self._sequence(n_tokens)
        path = f"/features?format={what}"
        with closing(HTTPConnection(self._address, timeout=120)) as client:
            for turn in range(self._rounds + 3):
                if turn % 2:
                    bare_seconds = self._bare_seconds(sequence)
                answer_seconds, own_seconds = _timed(client, path, sequence)
                if not turn % 2:
                    bare_seconds = self._bare_seconds(sequence)
                if turn >= 3:
                    bare.append(bare_seconds)
                    answers.append(answer_seconds)
                    around.append(answer_seconds - own_seconds)
        label = f"{what}, cached" if cached else what
        limit = None if cached else LIMIT_MS[what]
        return _row(label, n_tokens, 1, bare, answers, around, limit)

    def many(self, what: str, n_tokens: int, clients: int) -> Row:
        """`clients` at once; as many predictions one after the other are the reference."""
        bare, answers = [], []
        sequences = [self._sequence(n_tokens) for _ in range(clients)]
        path = f"/features?format={what}"
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(clients))
            connections = [
                stack.enter_context(closing(HTTPConnection(self._address, timeout=120)))
                for _ in range(clients)
            ]
            for turn in range(max(3, self._rounds // clients) + 1):
                began = time.perf_counter()
                list(threads.map(_timed, connections, [path] * clients, sequences))
                taken = time.perf_counter() - began
                predicted = sum(self._bare_seconds(each) for each in sequences)
                if turn >= 1:
                    answers.append(taken)
                    bare.append(predicted)
        return _row(what, n_tokens, clients, bare, answers, (), None)


def _timed(client: HTTPConnection, path: str, sequence: str) -> tuple[float, float]:
    """Seconds of a request, and of the prediction in it."""
    began = time.perf_counter()
    client.request("POST", path, sequence, PLAIN)
    answer = client.getresponse()
    body = answer.read()
    taken = time.perf_counter() - began
    found = re.search(r"predict;dur=([\d.]+)", answer.headers["Server-Timing"] or "")
    if answer.status != 200 or found is None:
        raise RuntimeError(f"{answer.status}: {body[:500]!r}")
    return taken, float(found[1]) / 1000


def _row(
    what: str,
    n_tokens: int,
    clients: int,
    bare: Sequence[float],
    answers: Sequence[float],
    around: Sequence[float],
    limit_ms: float | None,
) -> Row:
    """`over` is the median of the differences: a pair saw the machine in one state."""
    over = median(answer - reference for answer, reference in zip(answers, bare, strict=True))
    return Row(
        what,
        n_tokens,
        clients,
        bare_ms=1000 * median(bare),
        answer_ms=1000 * median(answers),
        over_ms=1000 * over,
        around_ms=1000 * median(around) if around else None,
        ratio=median(answers) / median(bare),
        limit_ms=limit_ms,
    )


def _own_tokens(lengths: Sequence[int]) -> tuple[int, ...]:
    """A few, then what nearly fills each length of the package, the last one to its end."""
    *shorter, window = lengths
    return (10, *(length - 8 for length in shorter), window - SPECIALS)


def _measure(bench: Bench, lengths: Sequence[int]) -> list[Row]:
    own_tokens = _own_tokens(lengths)
    rows = [bench.one(what, n_tokens) for n_tokens in own_tokens for what in ("npy", "json")]
    return rows + [bench.many(what, own_tokens[-1], 8) for what in ("npy", "json")]


def _measure_cached(bench: Bench, lengths: Sequence[int]) -> list[Row]:
    longest = _own_tokens(lengths)[-1]
    return [bench.one(what, longest, cached=True) for what in ("npy", "json")]


def _print(rows: Sequence[Row]) -> None:
    print("answer        tokens  clients  bare ms  answer ms  over ms  around ms  ratio  limit")
    for row in rows:
        verdict = ""
        around = "" if row.around_ms is None else f"{row.around_ms:.1f}"
        if row.limit_ms is not None:
            verdict = f"{row.limit_ms:g} ms " + ("met" if row.over_ms <= row.limit_ms else "MISSED")
        print(
            f"{row.what:<13} {row.tokens:>6} {row.clients:>8} {row.bare_ms:>8.1f} "
            f"{row.answer_ms:>10.1f} {row.over_ms:>8.1f} {around:>10} {row.ratio:>6.2f}  {verdict}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: gena-mini, else a tiny one")
    parser.add_argument("--rounds", type=int, default=40, help="requests of each row")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    threads = arguments.threads
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or (MINI if MINI.is_dir() else None)
        if bundle is None:
            bundle = seeded_bundle(Path(folder) / "bundle")
        opened = open_bundle(bundle)
        tokenizer = opened.tokenizer()
        rows: list[Row] = []
        settings = {"GENA_THREADS": str(threads)}
        with bare_process(bundle, threads) as bare:
            for cache_bytes, measure in (("0", _measure), (str(2**26), _measure_cached)):
                with served(bundle, GENA_CACHE_BYTES=cache_bytes, **settings) as server:
                    bench = Bench(server.url, bare, tokenizer, arguments.rounds)
                    rows += measure(bench, opened.manifest.lengths)
            runtime = bare.runtime
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(f"{opened.manifest.model}, {runtime}, {threads} thread(s), {arguments.rounds} rounds")
        _print(rows)
    missed = [row for row in rows if row.limit_ms is not None and row.over_ms > row.limit_ms]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
