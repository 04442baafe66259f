"""`gena doctor` as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.doctor.report import Report
from app.doctor.visit import Visit
from tests.support.paths import ROOT
from tests.support.scenarios import is_running, until

COMMAND = (sys.executable, "-P", "-m", "app.cli", "doctor", "--report=report.md")
SKIPPED = ("suite", "installation", "units")


@contextmanager
def started(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """In a folder of its own, with one for temporary files."""
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [*COMMAND, *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def report_in(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_bytes())


@pytest.mark.skipif(sys.platform == "darwin", reason="of a machine that is no Mac")
def test_off_a_mac_the_page_begins_with_it(tmp_path: Path) -> None:
    skips = (f"--skip={name}" for name in (*SKIPPED, "conversion"))
    with started(tmp_path, *skips) as process:
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    page = (tmp_path / "report.md").read_text()
    assert page.split("\n\n")[1].startswith("**This was no Mac.**")
    report = report_in(tmp_path)
    assert not report.on_a_mac
    assert report.shown == ()
    assert len(report.steps) == 10
    assert list((tmp_path / "tmp").iterdir()) == []
    # The end says where the page lies and what to do with it.
    assert str(tmp_path / "report.md") in said.splitlines()[-4]
    assert "issue" in said.splitlines()[-2]


def test_after_ctrl_c_nothing_is_left_but_what_was_found(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    with started(tmp_path, *(f"--skip={name}" for name in SKIPPED)) as process:
        until(lambda: any(scratch.glob("gena-doctor-*/convert-0.out")), "it converts", 60)
        time.sleep(3.0)  # torch is there by then, and what it leaves
        for _ in range(2):  # as impatient people do
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert list(scratch.iterdir()) == []
    assert running_with(str(tmp_path)) == []
    report = report_in(tmp_path)
    assert [step.verdict for step in report.steps] == ["passed", *["skipped"] * 2, "interrupted"]
    assert "It was interrupted" in said
    assert "**interrupted**" in (tmp_path / "report.md").read_text()


def test_what_it_runs_ends_with_it_also_when_it_is_killed(visit: Visit, tmp_path: Path) -> None:
    folder = visit.bundle_to_serve()[1].path
    code = (
        "import sys, time; from pathlib import Path\n"
        "from app.doctor import serving, visit\n"
        "from converter.bundle.opening import open_bundle\n"
        "here = visit.Visit(Path(sys.argv[1]), '', False)\n"
        "here.bundles = {'tiny': open_bundle(Path(sys.argv[2]))}\n"
        "with serving.serving(here, 'test') as server:\n"
        "    print(server.process.pid, server.model_pid(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    doctor = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert doctor.stdout is not None
    pids = [int(pid) for pid in doctor.stdout.readline().split()]
    doctor.kill()
    doctor.communicate()
    assert len(pids) == 2
    until(lambda: not any(map(is_running, pids)), "server and model end")


def running_with(word: str) -> list[str]:
    """Command lines of processes that hold a word."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if word in line]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--report=/nowhere/at/all.md", "Name another file with --report."),
        ("--report=page.txt", "the name of a page ends in .md"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_at_once(
    option: str, said: str, tmp_path: Path
) -> None:
    with started(tmp_path, option) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: ")
    assert said in errors
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_fails_is_an_exit_status(tmp_path: Path) -> None:
    skips = (f"--skip={name}" for name in (*SKIPPED, "features", "load", "restart"))
    broken = tmp_path / "broken"
    broken.mkdir()
    # Both: the hub is not asked for what is a folder here.
    code = (
        "import sys; from app.doctor import visit, command\n"
        f"command.SMALL_MODEL = {str(broken)!r}\n"
        "from app.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--report=report.md", *skips],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert json.loads((tmp_path / "report.json").read_text())["steps"][3]["verdict"] == "failed"
    assert "failed: conversion" in done.stdout
