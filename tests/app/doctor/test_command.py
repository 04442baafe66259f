"""`gena doctor` as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.doctor.report import Report
from tests.support.paths import ROOT
from tests.support.scenarios import until

COMMAND = (sys.executable, "-P", "-m", "app.cli", "doctor", "--report=report.md")
SKIPPED = ("suite", "installation", "units")


def started(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """In a folder of its own, with one for temporary files."""
    (folder / "tmp").mkdir()
    return subprocess.Popen(
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


def report_in(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_bytes())


@pytest.mark.skipif(sys.platform == "darwin", reason="of a machine that is no Mac")
def test_off_a_mac_the_page_begins_with_it(tmp_path: Path) -> None:
    process = started(tmp_path, *(f"--skip={name}" for name in (*SKIPPED, "conversion")))
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
    process = started(tmp_path, *(f"--skip={name}" for name in SKIPPED))
    scratch = tmp_path / "tmp"
    until(lambda: any(scratch.glob("gena-doctor-*/convert-0.out")), "it converts", 60)
    time.sleep(1.0)
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


def running_with(word: str) -> list[str]:
    """Command lines of processes that hold a word."""
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
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
    process = started(tmp_path, option)
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
