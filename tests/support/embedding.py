"""`gena embed` as people run it, and the records it is run on."""

import io
import os
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.cli import main
from tests.support.paths import ROOT

# At how many moments a run is killed; more of them by hand: GENA_EMBED_KILLS=50.
KILLS = int(os.environ.get("GENA_EMBED_KILLS", "4"))
COMMAND = (sys.executable, "-m", "app.cli", "embed")


def environment(**more: str) -> dict[str, str]:
    """Of a run: nobody's settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GENA_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}


def start(*arguments: object, **more: str) -> subprocess.Popen[str]:
    """A run that goes on."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    *arguments: object, stdin: bytes | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """A run to its end, in this process: to start one takes longer than most runs.

    The model has a process of its own as ever.
    """
    command = ["embed", *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        for name in set(os.environ) - set(environment()):
            patch.delenv(name)
        for name, value in environment(**more).items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin or b"")))
        try:
            status = main(command)
        except SystemExit as end:  # of argparse
            status = cast(int, end.code)
    return subprocess.CompletedProcess(command, status, output.getvalue(), errors.getvalue())


def child_of(pid: int) -> int | None:
    """The first process that a process has started, such as the model of a run."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each of its threads
        with suppress(OSError):  # it ended
            for child in children.read_text().split():
                return int(child)
    return None


def write_fasta(path: Path, lengths: list[int], seed: int = 1) -> list[tuple[str, str]]:
    """Random records of these lengths, in lines of 60; what they are."""
    draw = random.Random(seed)
    records = [
        (f"r{number}", "".join(draw.choices("ACGTacgt", k=length)))
        for number, length in enumerate(lengths)
    ]
    with path.open("w") as file:
        for name, sequence in records:
            file.write(f">{name} of a test\n")
            file.writelines(sequence[at : at + 60] + "\n" for at in range(0, len(sequence), 60))
    return records


def merged(folder: Path) -> pa.Table:
    """All shards of a folder, by its own command, without what the file says of itself."""
    output = folder.with_suffix(".parquet")
    done = run("--merge", folder, "-o", output)
    assert done.returncode == 0, done.stderr
    return pq.read_table(output).replace_schema_metadata(None)


@dataclass
class InMemory:
    """Sequences that need no file."""

    records: list[tuple[str, str]]
    names: list[str] = field(init=False)
    lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [name for name, _ in self.records]
        self.lengths = [len(sequence) for _, sequence in self.records]

    def fetch(self, record: int, start: int, end: int) -> str:
        return self.records[record][1][start:end]
