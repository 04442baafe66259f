"""What keeps a Mac awake, with a stand-in for the system's own command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.cli import main
from app.embed import command
from app.host.awake import kept_awake
from tests.support.scenarios import is_running, until

KEEPER = """#!/bin/sh
echo "$$ $*" > {log}
exec sleep 600
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Path:
    path = tmp_path / "caffeinate"
    path.write_text(KEEPER.format(log=tmp_path / "log"))
    path.chmod(0o755)
    return path


def told(keeper: Path) -> list[str]:
    log = keeper.with_name("log")
    until(lambda: log.exists() and log.read_text().endswith("\n"), "it runs")
    return log.read_text().split()


def test_a_mac_stays_awake_until_the_work_is_done(
    keeper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with kept_awake(keeper):
        pid, *options = told(keeper)
        # As its manual has them: no sleep for idleness, for as long as a process is there.
        assert options == ["-i", "-w", str(os.getpid())]
        assert is_running(int(pid))
    assert not is_running(int(pid))


def test_without_it_the_work_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with kept_awake(tmp_path / "absent"):
        pass


def test_gena_embed_keeps_a_mac_awake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awake, seen = [False], []

    @contextmanager
    def noted() -> Iterator[None]:
        awake[0] = True
        yield
        awake[0] = False

    async def computes(*_: object) -> int:
        seen.append(awake[0])
        return 0

    monkeypatch.setattr(command, "kept_awake", noted)
    monkeypatch.setattr(command, "embed", computes)
    (tmp_path / "genes.fa").write_text(">gene\nACGT\n")
    assert main(["embed", str(tmp_path / "genes.fa"), "-o", str(tmp_path / "vectors")]) == 0
    assert (seen, awake) == ([True], [False])
