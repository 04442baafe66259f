"""`gena embed` against the bare runtime, and its memory over files of 2 and 200 Mb.

    python -m benchmarks.embed [--bundle FOLDER] [--records N] [--megabases N] [--json]

The rate is that of N records of 200 to 9,000 bp, from `begin` to `done`: reading, tokenizing,
pooling and writing beside predicting. The reference predicts the very same windows in a process of
its own, in batches as the queue makes them, and does nothing else. Both are run twice, in turns;
the better time of each counts. The share is wanted to be 0.95 or more.

Memory is the most that the command's own process had resident (the model's process is another),
over windows of 2,000 bases: 250 of each file, so that it is read and listed as a whole.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.inference.windows import plan_windows
from benchmarks.service import MINI
from converter.bundle.opening import open_bundle
from converter.runtime.loading import load_runtime
from converter.terminal import aligned, print_json

_WINDOWS_FOR_MEMORY = 250
_LINE, _LINES_AT_ONCE = 60, 10_000
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1"}


def _bare(bundle: Path, file: Path, channel: Connection) -> None:
    """In a child: seconds that the windows of a file take, and their number."""
    opened = open_bundle(bundle)
    tokenizer = opened.tokenizer()
    windows = []
    for record in file.read_text().split(">")[1:]:
        sequence = "".join(record.splitlines()[1:])
        ids = tokenizer.encode(sequence).ids
        for window in plan_windows(len(ids), 0, tokenizer.max_own_tokens):
            windows.append((len(sequence), tokenizer.window(ids[window.first : window.end])))
    windows.sort(key=lambda each: -each[0])
    runtime = load_runtime(opened)
    runtime.warm_up()
    began = time.perf_counter()
    batch: list[NDArray[np.int32]] = []
    for _, ids in windows:
        if batch and sum(map(len, batch)) + len(ids) > runtime.batch_tokens:
            runtime.predict(batch)
            batch = []
        batch.append(ids)
    runtime.predict(batch)
    channel.send((time.perf_counter() - began, len(windows)))


def bare_seconds(bundle: Path, file: Path) -> tuple[float, int]:
    """Of the bare runtime, and how many windows it predicted."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_bare, args=(bundle, file, theirs))
    child.start()
    theirs.close()  # so that a child that failed is told, and not waited for
    seconds, n_windows = ours.recv()
    child.join()
    return float(seconds), int(n_windows)


def embed(bundle: Path, file: Path, folder: Path, *options: object) -> tuple[float, float]:
    """Seconds from `begin` to `done`, and the peak memory of the command in MiB."""
    command = [sys.executable, "-m", "app.cli", "embed", file, "-o", folder, "--bundle", bundle]
    with subprocess.Popen(
        [*map(str, command), "--json", "--yes", *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **_ENVIRONMENT},
    ) as process:
        assert process.stdout is not None
        peak, seconds = 0.0, 0.0
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "done":
                seconds, peak = event["seconds"], event["peak_mib"]
    if process.returncode:
        raise SystemExit(f"gena embed ended with status {process.returncode}")
    return seconds, peak


def write_records(file: Path, lengths: Sequence[int]) -> None:
    """Random records of these lengths, as FASTA."""
    draw = np.random.default_rng(0)
    alphabet = np.frombuffer(b"ACGT", np.uint8)
    with file.open("wb") as out:
        for number, length in enumerate(lengths):
            out.write(b">r%d\n" % number)
            for start in range(0, length, _LINES_AT_ONCE * _LINE):
                size = min(_LINES_AT_ONCE * _LINE, length - start)
                letters = alphabet[draw.integers(0, 4, size)].tobytes()
                out.writelines(letters[at : at + _LINE] + b"\n" for at in range(0, size, _LINE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where the rate is under its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=MINI)
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--megabases", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="gena-bench-") as scratch:
        work = Path(scratch)
        records = work / "records.fa"
        write_records(records, [draw.randint(200, 9_000) for _ in range(given.records)])
        bare, ours = [], []
        n_windows = 0
        for turn in range(2):
            seconds, n_windows = bare_seconds(given.bundle, records)
            bare.append(seconds)
            ours.append(embed(given.bundle, records, work / f"v{turn}")[0])
        share = min(bare) / min(ours)
        memory = {}
        for megabases in (max(1, given.megabases // 100), given.megabases):
            genome, bed, size = work / "genome.fa", work / "sample.bed", megabases * 10**6
            write_records(genome, [size])
            starts = range(0, size, size // _WINDOWS_FOR_MEMORY)
            bed.write_text("".join(f"r0\t{at}\t{min(at + 2_000, size)}\n" for at in starts))
            folder = work / f"m{megabases}"
            memory[megabases] = embed(given.bundle, genome, folder, "--bed", bed)[1]
    figures = {
        "records": given.records,
        "model_windows": n_windows,
        "bare_seconds": round(min(bare), 2),
        "embed_seconds": round(min(ours), 2),
        "share": round(share, 3),
        "peak_mib": {f"{megabases} Mb": round(mib, 1) for megabases, mib in memory.items()},
    }
    if given.json:
        print_json(figures)
    else:
        print("\n".join(aligned([(name, str(value)) for name, value in figures.items()])))
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
