"""What an actor of a Ray cluster does, without Ray: it is called as Ray Data calls it."""

import argparse
import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.embed.cluster.pool import Node, pool_for
from app.embed.cluster.task import MESSAGE, TASK, Failed, Made, Message, Task
from app.embed.cluster.worker import ShardWorker
from app.embed.errors import INPUT, TryAgainError, UsageError
from app.embed.options import EmbedOptions, add_options, read_options
from app.embed.shards import ShardStamp
from app.settings import Settings
from converter.bundle.opening import Bundle
from converter.versions import own_version
from tests.support.embedding import run, write_fasta

CUT = ("--windows", 500, "--shard-windows", 5)


def options(*arguments: object) -> EmbedOptions:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args([str(each) for each in arguments]))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """The folder of a genome and of what one machine has made of it."""
    folder = tmp_path_factory.mktemp("done")
    write_fasta(folder / "genome.fa", [3_000, 1_000])
    what = (folder / "genome.fa", "-o", folder / "out", *CUT)
    made = run(*what, "--bundle", tiny_bundle.path, "--threads", 1)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def task(tmp_path: Path, tiny_bundle: Bundle, done: Path) -> Task:
    """That run, for a cluster to do again."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "out"
    said = json.loads(pq.read_schema(folder / "part-000000.parquet").metadata[b"gena-coreml"])
    said.pop("version")
    settings = Settings(bundle=tiny_bundle.path, threads=1)
    asked = options(tmp_path / "genome.fa", "-o", folder, *CUT, "--ray", "auto")
    return Task("auto", asked, settings, ShardStamp(**said), (0, 1), own_version())


def windows(task: Task) -> pa.Table:
    return pq.read_table(task.options.output / "windows.parquet")


def answer(task: Task, rows: pa.Table) -> Message:
    (text,) = ShardWorker(task)(rows)["message"].to_pylist()
    return MESSAGE.validate_json(text)


def test_a_shard_is_the_one_of_a_run_on_one_machine(task: Task) -> None:
    path = task.options.output / "part-000001.parquet"
    expected = path.read_bytes()
    path.unlink()
    sent = TASK.validate_json(TASK.dump_json(task))
    assert sent == task
    assert answer(sent, windows(task).slice(5)) == Made(1, 0)
    assert path.read_bytes() == expected


def test_rows_that_are_no_shard_are_refused(task: Task) -> None:
    path = task.options.output / "part-000000.parquet"
    before = path.read_bytes()
    worker = ShardWorker(task)
    for rows in (windows(task).slice(0, 6), windows(task).slice(4, 5)):  # too many; of two shards
        (text,) = worker(rows)["message"].to_pylist()
        failed = MESSAGE.validate_json(text)
        assert isinstance(failed, Failed)
        assert "windows that are no shard" in failed.message
    assert path.read_bytes() == before


def spoiled(task: Task) -> Iterator[tuple[Task, str]]:
    """What may differ on another node, and what is said of it."""
    folder = task.options.output
    yield replace(task, version="0.0.1"), "0.0.1 where the run was begun"
    elsewhere = replace(task.options, output=folder.with_name("elsewhere"))
    yield replace(task, options=elsewhere), "has to lie on a file system that all nodes share"
    missing = replace(task.options, input=str(folder / "genome.fa"))
    yield replace(task, options=missing), "genome.fa is not there"
    changed = folder.with_name("changed.fa")
    changed.write_text(Path(task.options.input).read_text().replace("A", "C", 1))
    yield replace(task, options=replace(task.options, input=str(changed))), "SHA-256"
    yield replace(task, stamp=replace(task.stamp, windows_sha256="0" * 64)), "not that of the run"
    other = replace(task.stamp, fingerprint="0123456789abcdef")
    yield replace(task, stamp=other), "and that of the run 0123456789abcdef"


def test_what_differs_on_a_node_is_told_with_its_name(task: Task) -> None:
    shutil.rmtree(task.options.output / "elsewhere", ignore_errors=True)
    for wrong, expected in spoiled(task):
        failed = answer(wrong, windows(task).slice(0, 5))
        assert isinstance(failed, Failed)
        assert failed.status == INPUT
        assert failed.message.startswith("On the node ")
        assert expected in failed.message


def test_models_fill_the_cluster() -> None:
    two_cpus = [Node(2, 0), Node(2, 0)]
    assert pool_for(two_cpus, Settings()).size == 2  # a model a node
    assert pool_for(two_cpus, Settings(threads=1)).size == 4
    unequal = pool_for([Node(0, 0), Node(4, 0), Node(9, 0)], Settings())
    assert (unequal.size, unequal.cpus, unequal.threads) == (3, 4, 4)


def test_a_model_a_gpu_where_there_are_some() -> None:
    nodes = [Node(8, 0), Node(16, 4), Node(1, 4)]
    pool = pool_for(nodes, Settings())
    assert (pool.size, pool.gpus, pool.cpus, pool.threads) == (5, 1, 1, None)
    assert pool_for(nodes, Settings(device="cpu")).gpus == 0
    assert pool_for(nodes, Settings(runtime="mil")).gpus == 0


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(TryAgainError, match="what a model takes"):
        pool_for([Node(8, 0)], Settings(device="cuda"))
    with pytest.raises(TryAgainError, match="CPUs: 16"):
        pool_for([Node(8, 0)], Settings(threads=16))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "local"])
def test_an_address_is_auto_or_a_host_and_its_port(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        options("a.fa", "-o", "out", "--ray", address)


@pytest.mark.parametrize(
    "more", [["--url", "http://lab:8000"], ["--dry-run"]], ids=["a service", "an estimate"]
)
def test_a_cluster_goes_with_neither(more: list[str]) -> None:
    with pytest.raises(UsageError, match="leave --"):
        options("a.fa", "-o", "out", "--ray", "auto", *more)


def test_standard_input_is_at_no_path_of_a_node() -> None:
    with pytest.raises(UsageError, match="Name a file"):
        options("-", "-o", "out", "--ray", "auto")


def test_without_ray_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is not installed: nothing of that name can be found."""
    path = tmp_path / "a.fa"
    write_fasta(path, [300])
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "ray" else find(name, *more),
    )
    done = run(path, "-o", tmp_path / "out", "--ray", "auto")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("Ray is not installed: pip install 'gena-coreml[ray]'")
