"""`gena embed --ray` on a real cluster of two nodes on loopback."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from converter.bundle.opening import Bundle
from tests.support.embedding import merged, run, start, write_fasta
from tests.support.ray_cluster import actors, two_nodes
from tests.support.scenarios import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'gena-coreml[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="a cluster of more than a node is on Linux"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with two_nodes() as address:
        yield address


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def test_a_worker_and_the_driver_are_killed_and_nothing_differs(
    tmp_path: Path, tiny_bundle: Bundle, address: str
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [60_000, 40_000])
    what = (path, "--windows", 500, "--shard-windows", 4, "--bundle", tiny_bundle.path)
    one_machine, cluster = tmp_path / "one machine", tmp_path / "cluster"
    assert run(*what, "-o", one_machine, "--threads", 1).returncode == 0
    # What was made without Ray is part of the same run.
    cluster.mkdir()
    for name in ("windows.parquet", "part-000000.parquet"):
        shutil.copy2(one_machine / name, cluster / name)
    made_before = (cluster / "part-000000.parquet").stat().st_mtime_ns
    command = (*what, "-o", cluster, "--threads", 1, "--ray", address, "--json")

    driver = start(*command)
    until(lambda: len(shards(cluster)) > 2, "shards are made", 60)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until(lambda: not actors(), "the cluster ends what the driver had begun", 60)
    n_made = len(shards(cluster))
    assert n_made < len(shards(one_machine))

    driver = start(*command)
    until(lambda: len(shards(cluster)) > n_made, "the run goes on", 60)
    os.kill(actors()[0], signal.SIGKILL)
    events, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    told = [json.loads(line) for line in events.splitlines()]
    assert "Models on the Ray cluster: 2" in " ".join(each.get("message", "") for each in told)
    assert sum(each["event"] == "shard" for each in told) == len(shards(one_machine)) - n_made
    assert errors == ""

    assert (cluster / "part-000000.parquet").stat().st_mtime_ns == made_before
    assert merged(cluster).equals(merged(one_machine))
    ours, theirs = (pq.read_schema(shards(folder)[-1]) for folder in (cluster, one_machine))
    assert ours.equals(theirs, check_metadata=True)


def test_ctrl_c_ends_what_the_cluster_computes(
    tmp_path: Path, tiny_bundle: Bundle, address: str
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [400_000])
    what = (path, "-o", tmp_path / "out", "--windows", 500, "--shard-windows", 4)
    driver = start(*what, "--bundle", tiny_bundle.path, "--threads", 1, "--ray", address)
    until(lambda: len(shards(tmp_path / "out")) > 0, "a shard is made", 60)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "The same command goes on from here." in errors
    until(lambda: not actors(), "the cluster ends what it had begun", 60)


def test_no_cluster_is_a_sentence(tmp_path: Path, tiny_bundle: Bundle) -> None:
    path = tmp_path / "a.fa"
    write_fasta(path, [300])
    what = (path, "-o", tmp_path / "out", "--bundle", tiny_bundle.path)
    done = run(*what, "--ray", "127.0.0.1:1")
    assert done.returncode == 75
    assert "No Ray cluster answers at 127.0.0.1:1." in done.stderr
    assert "Traceback" not in done.stderr
