"""docs/batch.md: its commands are taken, its tables are the code's, its Snakefile runs."""

import argparse
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.cli import main
from app.embed import errors
from app.embed.bed import read_bed
from app.embed.options import DEFAULT_SHARD_WINDOWS, EmbedOptions, read_options
from app.embed.planning import Planner
from app.embed.sequences import open_input
from app.embed.shards import ShardStamp, schema
from app.embed.windows import Cut, Refused
from app.requests.options import Choices
from app.settings import Settings
from converter.bundle.opening import Bundle
from tests.support.pasted import put_command, sections
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "batch.md"
TEXT = PAGE.read_text()
SECTIONS = sections(PAGE)
# Notes how it was called, and ends as it is told to.
NOTES = """#!{python}
import json, os, sys
with open({notes!r}, "a") as notes:
    device = os.environ.get("CUDA_VISIBLE_DEVICES")
    notes.write(json.dumps([sys.argv[1:], device]) + "\\n")
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture(autouse=True)
def _settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GENA_")]:
        monkeypatch.delenv(name)


class Pasted:
    """A shell in which some programs only note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("gena", "scontrol"):
            notes = str(folder / f"{name}.txt")
            put_command(folder / "bin", name, NOTES.format(python=sys.executable, notes=notes))

    def run(self, code: str, **environment: str) -> int:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-c", code], cwd=self.folder, env={**environment, "PATH": path}, timeout=60
        )
        return done.returncode

    def noted(self, name: str = "gena") -> list[tuple[list[str], str | None]]:
        notes = self.folder / f"{name}.txt"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [(words, device) for words, device in map(json.loads, lines)]


@pytest.fixture
def pasted(tmp_path: Path) -> Pasted:
    return Pasted(tmp_path)


def taken(words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What the command line makes of a command."""
    asked: list[argparse.Namespace] = []
    monkeypatch.setattr("app.embed.command.run", lambda given, _: asked.append(given) or 0)
    assert main(words) == 0, words
    return asked[0]


def run_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> EmbedOptions:
    return read_options(taken(words, monkeypatch))


def test_the_commands_are_taken(pasted: Pasted, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for part in SECTIONS.values() for block in part if block.language == "bash"]
    for block in blocks:
        assert pasted.run(block.code) == 0
    commands = [words for words, _ in pasted.noted()]
    embedded = [words for words in commands if words[0] == "embed"]
    assert [words for words in commands if words not in embedded] == [
        ["convert", "--model", "AIRI-Institute/gena-lm-bert-base"]
    ]
    asked = [taken(words, monkeypatch) for words in embedded]
    runs = [read_options(each) for each in asked if each.merge is None]
    assert len(runs) >= 8
    assert {"promoters.bed"} == {run.bed.name for run in runs if run.bed is not None}
    assert [each.merge for each in asked if each.merge is not None] == ["vectors/"]


def test_options_of_the_text_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["embed", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    # Of Snakemake, SLURM and Ray.
    others = {"--cores", "--executor", "--dependency", "--disable-usage-stats"}
    assert set(re.findall(r"`[^`]*?(--[a-z][a-z-]+)", prose)) - others <= known


def test_gpus_get_a_part_each(pasted: Pasted, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [b.code for b in SECTIONS["Many machines"] if b.code.startswith("seq ")]
    assert pasted.run(code) == 0
    noted = [(run_of(words, monkeypatch), device) for words, device in pasted.noted()]
    assert {(run.part, run.parts, device) for run, device in noted} == {
        (part, 4, str(part - 1)) for part in (1, 2, 3, 4)
    }


def test_a_task_of_slurm_makes_its_part(pasted: Pasted, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = [b.code for b in SECTIONS["Many machines"] if b.language == "sh"]
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "70", "SLURM_CPUS_PER_TASK": "8"}
    assert pasted.run(script, **task) == 0
    (words, _), *_ = pasted.noted()
    run = run_of(words, monkeypatch)
    assert f"#SBATCH --array=1-{run.parts}\n" in script
    assert run.part == 3
    assert taken(words, monkeypatch).threads == 8
    # What may pass is tried again, three times; what will not is not.
    assert pasted.run(script, **task, STATUS="3") == 3
    assert pasted.run(script, **task, STATUS="75", SLURM_RESTART_COUNT="3") == 75
    assert pasted.noted("scontrol") == []
    pasted.run(script, **task, STATUS="75")
    assert [words for words, _ in pasted.noted("scontrol")] == [["requeue", "70_3"]]


def test_nextflow_would_run_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = SECTIONS["Nextflow"]
    scripts = re.findall(r'"""\n(.*?)"""', block.code, re.DOTALL)
    values = {
        "$genome": "genome.fa.gz", "$part": "2", "$task.cpus": "4",
        "${params.vectors}": "vectors", "${params.parts}": "4",
    }  # fmt: skip
    commands = []
    for script in scripts:
        for name, value in values.items():
            script = re.sub(re.escape(name) + r"(?!\w)", value, script)
        assert "$" not in script
        commands.append(shlex.split(script.replace("\\\\\n", " "))[1:])
    embedded = run_of(commands[0], monkeypatch)
    assert (embedded.part, embedded.parts, embedded.output) == (2, 4, Path("vectors"))
    merging = taken(commands[1], monkeypatch)
    assert merging.merge == "vectors"
    assert f"path '{merging.output}'" in block.code


def table(heading: str) -> dict[str, str]:
    """Rows of the table below the first line that begins with `heading`, by their first cell."""
    _, _, below = TEXT.partition(heading)
    lines = below[below.index("\n|") :].strip().partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1] for row in cells}


def test_the_exit_statuses_are_those_of_the_command() -> None:
    statuses = {errors.DONE, errors.FAILED, errors.USAGE, errors.INPUT}
    statuses |= {errors.TRY_AGAIN, errors.INTERRUPTED}
    assert {int(status) for status in table("nothing of it is changed.")} == statuses


def columns(heading: str) -> list[tuple[str, str]]:
    rows = table(heading).items()
    return [(name, type_) for names, type_ in rows for name in re.findall(r"`(\w+)`", names)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_columns_are_those_of_a_shard(dtype: str) -> None:
    def found(*, per_token: bool) -> list[tuple[str, str]]:
        stamp = ShardStamp("", "", 768, {"per_token": per_token, "dtype": dtype}, "", "")
        return [(field.name, str(field.type)) for field in schema(stamp)]

    def shown(type_: str) -> str:
        """A type of the page, as pyarrow writes it."""
        value = {"float32": "float", "float16": "halffloat"}[dtype]
        vector = f"fixed_size_list<item: {value}>[768]"
        type_ = type_.replace("fixed_size_list of float32 or float16, H", vector)
        return re.sub(r"^list of (.*)", r"list<item: \1>", type_)

    pooled = [(name, shown(type_)) for name, type_ in columns("Columns of a shard")]
    assert pooled == found(per_token=False)
    tokens = [(name, shown(type_)) for name, type_ in columns("With `--per-token`, in place")]
    assert [*pooled[:-1], *tokens] == found(per_token=True)


def test_the_reasons_are_those_of_the_planner(tmp_path: Path) -> None:
    (tmp_path / "some.fa").write_text(
        ">good\nACGT\n>n\nNNNN\n>long\nACGTACGTACGT\n>good\nAC\n>empty\n>bad\nACXT\n>odd\nRRRR\n"
    )
    (tmp_path / "some.bed").write_text("nowhere\t0\t1\ngood\t3\t5\n")
    stop = threading.Event()
    choices = Choices(on_error="skip", overflow="window")
    codes = set()
    with open_input(str(tmp_path / "some.fa"), stop) as source:
        for bed in (None, read_bed(tmp_path / "some.bed", threading.Event())):
            planner = Planner(source.sequences, Cut(), choices, 10, stop, bed)
            codes |= {row.code for row in planner.rows() if isinstance(row, Refused)}
    told = {cell.strip("`") for cell in table("Nothing is dropped in silence.")}
    assert told == codes


def test_figures_are_those_of_the_settings() -> None:
    assert f"({Settings.model_fields['max_record_bases'].default:,}) bases" in TEXT
    assert f"vectors of {DEFAULT_SHARD_WINDOWS} windows each" in TEXT


def test_the_readme_leads_there() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "(docs/batch.md)" in readme
    assert "(docs/embeddings.md)" in readme


@pytest.mark.skipif(not shutil.which("snakemake"), reason="snakemake is not installed")
def test_snakemake_makes_the_parts_and_merges_them(tmp_path: Path, tiny_bundle: Bundle) -> None:
    (block,) = SECTIONS["Snakemake"]
    # A small genome has one shard of the usual size, which would leave nothing to the second part.
    small = block.code.replace("--stride 2000", "--stride 2000 --shard-windows 2")
    (tmp_path / "Snakefile").write_text(small)
    letters = "ACGTTGCAAC" * 1000 + "GGATCCTTAA" * 500
    genome = "".join(f">chr{n}\n{letters[n:]}\n" for n in (1, 2))
    (tmp_path / "genome.fa.gz").write_bytes(gzip.compress(genome.encode()))
    code = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m app.cli "$@"\n'
    put_command(tmp_path / "bin", "gena", code)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GENA_BUNDLE": str(tiny_bundle.path),
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }

    def snakemake() -> str:
        done = subprocess.run(
            ["snakemake", "--cores", "2"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    snakemake()
    merged = pq.read_table(tmp_path / "vectors.parquet")
    # 15 kb a record: the windows that begin at 12 kb are the last ones.
    assert merged["start"].to_pylist() == [*range(0, 14000, 2000)] * 2
    assert merged["window_id"].to_pylist() == list(range(14))
    assert merged["embedding"].null_count == 0
    assert len(list((tmp_path / "vectors").glob("part-*.parquet"))) == 7
    assert "Nothing to be done" in snakemake()
