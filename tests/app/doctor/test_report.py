"""A whole run in a folder with a telling name: what it finds, and what is not in its files."""

import json
import shutil
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from app.doctor import features
from app.doctor.examination import STEPS, Step, examine
from app.doctor.features import Window
from app.doctor.findings import (
    AnyFindings,
    Conversions,
    Environment,
    Features,
    Installation,
    Load,
    Restart,
)
from app.doctor.recording import Recorder
from app.doctor.redaction import of_this_machine
from app.doctor.rendering import page
from app.doctor.report import Report, StepReport
from app.doctor.visit import Visit
from converter.bundle.opening import Bundle

DNA = "ACGTTGCAATACGTTGCAATACGT"
TELLING = ("jane", "janedoe", "secret", "organism", "lab-notes", "janes-macbook", DNA)
WANTED = ("environment", "installation", "conversion", "features", "load", "restart")

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def breaks_loudly(visit: Visit) -> Generator[AnyFindings, None, None]:
    """As a library that quotes what it worked on."""
    yield Environment(
        system="",
        machine="",
        processor=f"of janedoe, on janes-macbook, {DNA.lower()}",
        cores=1,
        free_disk_gib=1,
        python="",
        source=f"{visit.scratch}/notes.txt",
    )
    raise ValueError(f"{visit.scratch / 'my file.fa'!s} of Jane Doe at jane@lab-notes.org: {DNA}")


@pytest.fixture
def report(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[Report, Path, str]:
    """A run by somebody, after the JSON that it wrote; its folder; and what the terminal showed."""
    folder = tmp_path / "jane" / "secret lab-notes"
    broken = folder / "organism"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path / "jane"))
    monkeypatch.setenv("USER", "janedoe")
    monkeypatch.setattr(socket, "gethostname", lambda: "janes-macbook.local")
    real = features.known_windows

    def with_a_wrong_one(bundle: Bundle) -> list[Window]:
        first, *others = real(bundle)
        noise = np.random.default_rng(0).standard_normal(first.rows.shape, np.float32)
        return [*others, Window("wrong", first.dna, noise)]

    monkeypatch.setattr(features, "known_windows", with_a_wrong_one)
    file = folder / "report.md"
    empty = Report(version="0", began="2026-01-01 00:00", on_a_mac=False)
    recorder = Recorder(file, of_this_machine([folder], [broken.name]), empty, lambda: None)
    visit = Visit(
        scratch=folder,
        library="converter.runtime.coreml_stand_in",
        on_a_mac=False,
        models=(str(broken), str(tiny_checkpoint)),
        load_seconds=1.0,
        clients=2,
        say=recorder.say,
    )
    steps = [step for step in STEPS if step.name in WANTED]
    steps.append(Step("agent", "breaks", breaks_loudly))
    examine(visit, empty, recorder, steps=steps)
    recorder.finish()
    found = Report.model_validate_json(file.with_suffix(".json").read_bytes())
    return found, folder, capsys.readouterr().out


@pytest.mark.long
def test_a_run(report: tuple[Report, Path, str]) -> None:
    found, folder, said = report
    files = [folder / "report.md", folder / "report.json"]
    steps = {step.name: step for step in found.steps}

    _check_findings(steps)
    # The page is made of the JSON; in neither is what tells of anybody, nor on the terminal, but
    # for where the files lie.
    assert files[0].read_text() == page(found)
    shown = said.partition("The report, for people")[0]
    for text in (files[0].read_text(), files[1].read_text(), shown):
        assert [each for each in TELLING if each.lower() in text.lower()] == []
    assert all(str(file) in said for file in files)
    assert "failed: conversion" in said
    json.loads(files[1].read_text())


def _check_findings(steps: dict[str, StepReport]) -> None:
    verdicts = {name: step.verdict for name, step in steps.items()}
    failed = {"conversion", "features", "agent"}
    assert verdicts == {name: "failed" if name in failed else "passed" for name in verdicts}
    environment, installation, conversion, by_curl, load, restart, _ = (
        step.findings for step in steps.values()
    )
    assert isinstance(environment, Environment)
    assert isinstance(installation, Installation)
    assert installation.core_ml == "a stand-in: this is no Mac"
    # The first checkpoint is broken, the second is converted.
    assert isinstance(conversion, Conversions)
    assert len(conversion.problems) == 1
    [row] = conversion.conversions
    assert (row.model, row.verdict) == ("the model that was given", "expected")
    assert row.peak_mib > 100
    assert len(conversion.gates) == 5
    # What curl got is compared with the reference; one of them was another model's.
    assert isinstance(by_curl, Features)
    *right, wrong = [each for each in by_curl.answers if each.request.endswith("npy")]
    assert len(right) >= 6
    assert all(each.psnr_db is not None and each.psnr_db > 40 for each in right)
    assert wrong.psnr_db is not None
    assert wrong.psnr_db < 20
    assert len(by_curl.problems) == 1
    assert {each.n_bytes for each in right} == {128 + 4 * 512 * 64}  # a header, and the numbers
    assert [each.status for each in by_curl.answers[-2:]] == [200, 422]
    assert isinstance(load, Load)
    assert load.requests > 0
    assert load.median_ms is not None
    assert load.p95_ms is not None
    assert load.longest_ms is not None
    assert 0 < load.median_ms <= load.p95_ms <= load.longest_ms
    assert isinstance(restart, Restart)
    assert restart.same_answer or sys.platform == "darwin"
    assert restart.again_seconds is not None
