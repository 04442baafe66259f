"""`gena embed --ray` on a real cluster of two nodes on loopback."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from converter.bundle.opening import Bundle
from tests.support.embedding import KILLS, child_of, merged, run, start, write_fasta
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


def an_actor(_command: int) -> int | None:
    found = actors()
    return random.choice(found) if found else None


def a_model(command: int) -> int | None:
    actor = an_actor(command)
    return None if actor is None else child_of(actor)


# Who is killed, given the process of the command; whether the run ends with it.
VICTIMS: list[tuple[Callable[[int], int | None], bool]] = [
    (an_actor, False),
    (lambda command: command, True),
    (a_model, False),
    (child_of, True),  # which speaks with Ray
]


def test_killed_at_any_moment_the_result_is_that_of_a_run_without_ray(
    tmp_path: Path, tiny_bundle: Bundle, address: str
) -> None:
    path = tmp_path / "genome.fa"
    write_fasta(path, [60_000, 40_000])
    what = (path, "--windows", 500, "--shard-windows", 4, "--bundle", tiny_bundle.path)
    what = (*what, "--threads", 1)
    one_machine, cluster = tmp_path / "one machine", tmp_path / "cluster"
    assert run(*what, "-o", one_machine).returncode == 0
    # What was made without Ray is part of the same run.
    cluster.mkdir()
    for name in ("windows.parquet", "part-000000.parquet"):
        shutil.copy2(one_machine / name, cluster / name)
    made_before = (cluster / "part-000000.parquet").stat().st_mtime_ns
    command = (*what, "-o", cluster, "--ray", address, "--json")

    killed = kill_at_random(command, cluster, len(shards(one_machine)))
    n_made = len(shards(cluster))
    events, errors = start(*command).communicate(timeout=120)
    told = [json.loads(line) for line in events.splitlines()]
    assert told[-2]["event"] == "done", events + errors
    assert errors == ""
    print(f"killed, with Ray: {killed}")
    assert sum(killed) == max(2, KILLS // 2)
    assert all(killed[:2])
    assert "Models on the Ray cluster: 2" in " ".join(each.get("message", "") for each in told)
    assert sum(each["event"] == "shard" for each in told) == len(shards(one_machine)) - n_made

    assert (cluster / "part-000000.parquet").stat().st_mtime_ns == made_before
    expected = pq.read_table(shards(one_machine)).replace_schema_metadata(None)
    assert merged(cluster).equals(expected)
    ours, theirs = (pq.read_schema(shards(folder)[-1]) for folder in (cluster, one_machine))
    assert ours.equals(theirs, check_metadata=True)
    assert not [each for each in cluster.iterdir() if each.name.startswith(".part")]


def has_actors_or_ended(command: subprocess.Popen[str]) -> bool:
    return bool(actors()) or command.poll() is not None


def kill_at_random(command: tuple[object, ...], folder: Path, n_shards: int) -> list[int]:
    """Begin a run as often as it takes to kill its processes; how many there were of each kind."""
    draw = random.Random(5)
    killed = [0] * len(VICTIMS)
    process: subprocess.Popen[str] | None = None
    for number in cycle(range(len(VICTIMS))):
        if sum(killed) == max(2, KILLS // 2):
            break
        if process is None or process.poll() is not None:
            for each in shards(folder)[1:] if len(shards(folder)) == n_shards else []:
                each.unlink()
            until(lambda: not actors(), "the cluster ends what was begun", 60)
            process = start(*command)
        until(partial(has_actors_or_ended, process), "models are there", 60)
        time.sleep(draw.uniform(0, 2))
        find, ends = VICTIMS[number]
        victim = find(process.pid) if process.poll() is None else None
        if victim is None:
            continue
        os.kill(victim, signal.SIGKILL)
        killed[number] += 1
        if ends:
            process.communicate(timeout=60)
    if process is not None:
        process.kill()
        process.communicate()
    until(lambda: not actors(), "the cluster ends what was begun", 60)
    return killed


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


def test_actors_that_always_die_end_the_run(
    tmp_path: Path, tiny_bundle: Bundle, address: str
) -> None:
    path = tmp_path / "genes.fa"
    write_fasta(path, [500])
    what = (path, "-o", tmp_path / "out", "--bundle", tiny_bundle.path, "--threads", 1)
    process = start(*what, "--ray", address)
    n_killed = 0
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for actor in actors():
            os.kill(actor, signal.SIGKILL)
            n_killed += 1
        time.sleep(0.05)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == 75, (n_killed, errors)
    assert n_killed >= 6
    assert "died more than 5 times" in errors.splitlines()[-1]


def test_no_cluster_is_a_sentence(tmp_path: Path, tiny_bundle: Bundle) -> None:
    path = tmp_path / "a.fa"
    write_fasta(path, [300])
    what = (path, "-o", tmp_path / "out", "--bundle", tiny_bundle.path)
    done = run(*what, "--ray", "127.0.0.1:1")
    assert done.returncode == 75
    assert "No Ray cluster answers at 127.0.0.1:1." in done.stderr
    assert "Traceback" not in done.stderr
