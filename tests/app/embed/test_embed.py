"""`gena embed` from a file to Parquet, beside `POST /embeddings` of the same bundle."""

import gzip
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from Bio import SeqIO

from app.embed.shards import shard_path
from converter.bundle.opening import Bundle
from tests.support.embedding import KILLS, child_of, merged, run, start, write_fasta
from tests.support.running import Server, running
from tests.support.scenarios import until
from tests.support.small_disk import fill_up, small_disk

LENGTHS = [40, 700, 5_000, 120, 9_000, 1, 333, 2_600, 64, 64]
# The largest that a row may differ from another route to it: see "Company" in docs/architecture.md.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def service(tiny_bundle: Bundle) -> Iterator[Server]:
    command = (sys.executable, "-m", "app.cli", "serve", "--bundle", str(tiny_bundle.path))
    with running((*command, "--threads", "1")) as server:
        server.wait_for("ready")
        yield server


def served(server: Server, path: Path, **options: str) -> dict[str, np.ndarray]:
    answer = server.http.post(
        "/embeddings",
        params={"format": "npz", "overflow": "window", **options},
        content=path.read_bytes(),
    )
    assert answer.status_code == 200, answer.text
    arrays = np.load(io.BytesIO(answer.content))
    return dict(zip(arrays["record_ids"].tolist(), arrays["features"], strict=True))


def vectors(folder: Path) -> dict[str, np.ndarray]:
    table = merged(folder)
    values = table.column("embedding").combine_chunks()
    rows = values.flatten().to_numpy().reshape(len(table), -1)
    return dict(zip(table.column("record").to_pylist(), rows, strict=True))


def flip_a_bit(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 1
    path.write_bytes(content)


def assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, vector in ours.items():
        assert vector.dtype == theirs[name].dtype
        most = np.abs(theirs[name]).max()
        np.testing.assert_allclose(vector, theirs[name], rtol=0, atol=TOLERANCE * most)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": "max", "strand": "both", "normalize": "true"},
        {"pooling": "cls", "strand": "reverse", "dtype": "float16", "stride": "50"},
    ],
    ids=["defaults", "both strands", "half"],
)
def test_vectors_are_those_of_the_service(
    tmp_path: Path, tiny_bundle: Bundle, service: Server, options: dict[str, str]
) -> None:
    path = tmp_path / "genes.fa"
    write_fasta(path, LENGTHS)
    given = [f"--{n}={v}" for n, v in options.items() if n not in ("normalize", "stride")]
    given += ["--normalize"] if "normalize" in options else []
    given += [f"--overlap={options['stride']}"] if "stride" in options else []
    here = run(path, "-o", tmp_path / "here", "--bundle", tiny_bundle.path, *given)
    assert here.returncode == 0, here.stderr
    expected = served(service, path, **options)
    ours = vectors(tmp_path / "here")
    if options.get("dtype") == "float16":
        assert next(iter(ours.values())).dtype == np.float16
        for name, vector in ours.items():
            np.testing.assert_allclose(vector, expected[name], rtol=2e-3, atol=2e-3)
    else:
        assert_close(ours, expected)
    there = run(path, "-o", tmp_path / "there", "--url", service.url, *given)
    assert there.returncode == 0, there.stderr
    if options.get("dtype") != "float16":
        assert_close(vectors(tmp_path / "there"), expected)
    stamp = pq.read_schema(shard_path(tmp_path / "there", 0)).metadata[b"gena-coreml"]
    assert json.loads(stamp)["fingerprint"] == tiny_bundle.manifest.fingerprint


def test_a_row_a_token_on_both_strands_of_a_bed_file(
    tmp_path: Path, tiny_bundle: Bundle, service: Server
) -> None:
    path = tmp_path / "genome.fa"
    ((_, sequence),) = write_fasta(path, [6_000])
    bed = tmp_path / "genes.bed"
    bed.write_text("r0\t100\t4300\tplus\t0\t+\nr0\t100\t4300\tminus\t0\t-\n")
    folder = tmp_path / "tokens"
    done = run(path, "-o", folder, "--bundle", tiny_bundle.path, "--bed", bed, "--per-token")
    assert done.returncode == 0, done.stderr
    tokenizer = tiny_bundle.tokenizer()
    plus, minus = merged(folder).to_pylist()
    letters = sequence[100:4300].upper()
    offsets = tokenizer.encode(letters).offsets
    assert plus["name"] == "plus"
    assert plus["token_start"] == (offsets[:, 0] + 100).tolist()
    assert plus["token_end"] == (offsets[:, 1] + 100).tolist()
    turned = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    offsets = tokenizer.encode(turned).offsets
    assert minus["token_start"] == (4300 - offsets[:, 1]).tolist()
    answer = service.http.post(
        "/features?format=npy&overflow=window", json={"sequence": turned}
    ).content
    windows = np.load(io.BytesIO(answer))
    own = np.concatenate([window[1:511] for window in windows])[: len(offsets)]
    ours = np.array(minus["features"], np.float32)
    np.testing.assert_allclose(ours, own, rtol=0, atol=TOLERANCE * np.abs(own).max())


def test_parts_a_stream_and_one_run_give_the_same_rows(tmp_path: Path, service: Server) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [7_000, 3_000])
    options = ("--url", service.url, "--windows", 500, "--stride", 250)
    options = (*options, "--shard-windows", 8)
    whole = run(path, "-o", tmp_path / "whole", *options)
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "parts"
    one = run(path, "-o", folder, *options, "--part", "1/2")
    missing = run("--merge", folder, "-o", tmp_path / "early.parquet")
    assert missing.returncode == 75
    assert "shards are missing: part-000001.parquet, part-000003.parquet." in missing.stderr
    two = run("-", "-o", folder, *options, "--part", "2/2", stdin=path.read_bytes())
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert merged(folder).equals(merged(tmp_path / "whole"))
    assert len(list(folder.glob("part-*.parquet"))) == 5
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]
    none = run(path, "-o", folder, *options[2:], "--bundle", tmp_path / "no model", "--part", "9/9")
    assert none.returncode == 0, none.stderr
    assert "Part 9 of 9 has no shard: there are 5." in none.stderr


def test_windows_that_are_mostly_unknown_are_told(tmp_path: Path, service: Server) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\n" + "ACGTN" * 20 + "\n>b\n" + 300 * "N" + "RYACGT" * 20 + "\n")
    folder = tmp_path / "v"
    done = run(path, "-o", folder, "--url", service.url, "--ambiguous", "accept")
    assert done.returncode == 0, done.stderr
    assert "mostly letters other than A, C, G, T: 1;" in done.stderr
    assert merged(folder).column("n_ambiguous").to_pylist() == [20, 340]


def test_what_is_there_and_right_stays_and_what_is_not_is_made_again(
    tmp_path: Path, service: Server
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [4_000])
    folder = tmp_path / "v"
    command = (path, "-o", folder, "--url", service.url, "--windows", 200)
    command = (*command, "--shard-windows", 5)
    assert run(*command).returncode == 0
    undisturbed = merged(folder)
    before = {each.name: each.stat().st_mtime_ns for each in folder.glob("part-*")}
    damaged, gone = shard_path(folder, 1), shard_path(folder, 2)
    flip_a_bit(damaged, 0.3)
    gone.unlink()
    refused = run("--merge", folder, "-o", tmp_path / "x.parquet")
    assert refused.returncode == 75
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    made = [event["file"] for event in events if event["event"] == "shard"]
    assert made == [damaged.name, gone.name]
    after = {each.name: each.stat().st_mtime_ns for each in folder.glob("part-*")}
    assert {name for name in before if before[name] == after[name]} == {
        shard_path(folder, 0).name,
        shard_path(folder, 3).name,
    }
    assert merged(folder).equals(undisturbed)
    flip_a_bit(damaged, 0.3)
    refused = run("--merge", folder, "-o", tmp_path / "x.parquet")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert f"{damaged} is damaged" in refused.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_another_input_or_option_in_the_folder_is_named(tmp_path: Path, service: Server) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [900])
    folder = tmp_path / "v"
    command = (path, "-o", folder, "--url", service.url)
    assert run(*command, "--windows", 200).returncode == 0
    for changed, said in [
        (("--windows", 300), "other windows (--windows 200; now --windows 300)"),
        (("--windows", 200, "--pooling", "max"), "other options (pooling mean)"),
        (("--windows", 200, "--shard-windows", 7), "--shard-windows 512"),
    ]:
        done = run(*command, *changed)
        assert done.returncode == 2
        assert said in done.stderr
    write_fasta(path, [900], seed=2)
    done = run(*command, "--windows", 200)
    assert done.returncode == 2
    assert "another input file" in done.stderr
    assert len(list(folder.glob("part-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("missing.fa", "-o", "v"), 3, "missing.fa cannot be read (No such file"),
        (("x.fa", "-o", "v", "--stride", "5"), 2, "--stride is for --windows"),
        (
            ("x.fa", "-o", "v", "--windows", "2", "--stride", "5"),
            2,
            "3 of every 5 bases would be in no window. Take at most 2",
        ),
        (("x.fa", "-o", "v", "--part", "3/2"), 2, "K/N"),
        (("https://a.b/x.fa", "-o", "v"), 2, "curl -L https://a.b/x.fa | gena embed - -o"),
        (("x.fa", "-o", "v.parquet"), 2, "-o takes the folder of the shards, such as"),
        (("--merge", ".", "-o", "v", "--windows", "5"), 2, "nothing else"),
        (("x.fa", "-o", "v", "--per-token", "--strand", "both"), 2, "--per-token"),
        (("x.fa", "-o", "v", "--tokens", "4000"), 2, "no model takes more than 1022"),
        (("-o", "v"), 2, "Name a file"),
        (("x.fa", "-o", "v", "--model", "no/such/folder/here"), 3, "no/such"),
        (("x.fa", "-o", "v", "--url", "http://127.0.0.1:9/"), 75, "trying again"),
        (("x.fa", "-o", "v", "--url", "127.0.0.1:8000"), 2, "http://"),
        (("--merge", "nothing", "-o", "v"), 3, "it is no folder of gena embed"),
        (("--merge", ".", "-o", "no/where/x"), 2, "in a folder that is there"),
    ],
)
def test_how_it_ends_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    write_fasta(tmp_path / "x.fa", [100])
    given = [
        str(tmp_path / each) if each in ("x.fa", "v", "nothing") else each for each in arguments
    ]
    done = run(*given, HF_HUB_OFFLINE="1", GENA_BUNDLES=str(tmp_path / "bundles"))
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "v").exists()


def test_a_plan_writes_nothing(tmp_path: Path, tiny_bundle: Bundle, service: Server) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [9_000, 300])
    folder = tmp_path / "v"
    command = (path, "-o", folder, "--windows", 500, "--dry-run")
    done = run(*command, "--url", service.url)
    assert done.returncode == 0, done.stderr
    assert "windows  19, of 9300 bases in all" in done.stdout
    made = run(*command, "--bundle", tiny_bundle.path, "--json")
    (plan,) = [
        event for event in map(json.loads, made.stdout.splitlines()) if event["event"] == "plan"
    ]
    assert (plan["windows"], plan["bases"]) == (19, 9_300)
    tokenizer = tiny_bundle.tokenizer()
    records = write_fasta(path, [9_000, 300])
    tokens = sum(len(tokenizer.encode(sequence.upper()).ids) for _, sequence in records)
    assert plan["tokens"] == pytest.approx(tokens + 2 * 19, rel=0.05)
    assert not folder.exists()


def test_killed_at_any_moment_the_result_is_that_of_an_undisturbed_run(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [60_000, 20_000])
    options = ("--bundle", tiny_bundle.path, "--windows", 1_000, "--stride", 100)
    options = (*options, "--shard-windows", 60)
    assert run(path, "-o", tmp_path / "whole", *options).returncode == 0
    folder = tmp_path / "v"
    draw = random.Random(3)
    n_killed = n_models = 0
    for _ in range(KILLS):
        process = start(path, "-o", folder, *options, "--json")
        assert process.stdout is not None
        begun = any('"begin"' in line for line in process.stdout)
        if not begun:
            break
        if draw.random() < 0.5 and (model := child_of(process.pid)) is not None:
            os.kill(model, signal.SIGKILL)
            n_models += 1
        try:
            process.wait(draw.uniform(0.0, 0.5))
        except Exception:
            process.kill()
            n_killed += 1
        process.wait()
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()
        if len(list(folder.glob("part-*"))) > 11:
            shutil.rmtree(folder)
    done = run(path, "-o", folder, *options)
    assert done.returncode == 0, done.stderr
    assert n_killed
    assert merged(folder).equals(merged(tmp_path / "whole"))
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_says_how_to_go_on(
    tmp_path: Path, tiny_bundle: Bundle, number: signal.Signals
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [400_000])
    folder = tmp_path / "v"
    options = ("--bundle", tiny_bundle.path, "--windows", 1_000, "--shard-windows", 20)
    process = start(path, "-o", folder, *options, "--json")
    assert process.stdout is not None
    assert any('"begin"' in line for line in process.stdout)
    until(lambda: shard_path(folder, 0).exists(), "a shard")
    child = child_of(process.pid)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "The same command goes on from here" in output
    assert "Traceback" not in errors
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]
    assert child is None or not Path(f"/proc/{child}").exists()


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path: Path, service: Server) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [8_000])
    options = ("--url", service.url, "--windows", 20, "--shard-windows", 100, "--yes")
    assert run(path, "-o", tmp_path / "whole", *options).returncode == 0
    with small_disk(tmp_path / "disk") as disk:
        filler = fill_up(disk, but=80_000)
        folder = disk / "v"
        full = run(path, "-o", folder, *options)
        assert full.returncode == 75, full.stderr
        assert "Traceback" not in full.stderr
        assert "Make room and run the same command again" in full.stderr
        assert (folder / "part-000000.parquet").exists()
        assert not list(folder.glob(".part*"))
        filler.unlink()
        assert run(path, "-o", folder, *options).returncode == 0
        assert merged(folder).equals(merged(tmp_path / "whole"))


def test_a_pipe_is_an_input_and_a_failure_an_event(tmp_path: Path, service: Server) -> None:
    path = tmp_path / "genes.fa"
    write_fasta(path, [100, 200])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(pipe, "-o", tmp_path / "v", "--url", service.url)
    pipe.write_bytes(path.read_bytes())
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(merged(tmp_path / "v")) == 2
    done = run(tmp_path / "none.fa", "-o", tmp_path / "w", "--url", service.url, "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["status"]) == ("failed", 3)
    assert last["message"] in done.stderr


GENOME = Path("/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz")
# Bases from a window to the next. All of the genome by hand: GENA_EMBED_STRIDE=4000. Its million
# tokens are 22 TFLOP for gena-mini: two minutes of two idle cores, of which 98 % are products and
# attention (70 s in bf16).
STRIDE = int(os.environ.get("GENA_EMBED_STRIDE", "500000"))


@pytest.mark.long
@pytest.mark.skipif(not GENOME.exists(), reason="Debian's bowtie-examples is not installed")
def test_a_genome_from_its_gzipped_file_to_one_parquet_file(tmp_path: Path) -> None:
    """E. coli by gena-mini, converted first."""
    with gzip.open(GENOME, "rt") as file:
        (record,) = SeqIO.parse(file, "fasta")
    assert len(record) == 4_938_920
    places = [(n, min(n + 4_000, len(record))) for n in range(0, len(record), STRIDE)]
    bed, folder = tmp_path / "sample.bed", tmp_path / "ecoli"
    bed.write_text("".join(f"{record.id}\t{start}\t{end}\n" for start, end in places))
    options = ("--model", "gena-mini", "--bed", bed)
    done = run(GENOME, "-o", folder, *options, GENA_BUNDLES=str(tmp_path / "bundles"))
    assert done.returncode == 0, done.stderr
    table = merged(folder)
    assert table.column("start").to_pylist() == list(range(0, len(record), STRIDE))
    assert set(table.column("record").to_pylist()) == {record.id}
    assert table.column("embedding").null_count == 0
    assert table.schema.field("embedding").type.list_size == 768
