"""What runs elsewhere for this project: as few rights as can be, and nothing that can be moved."""

import re

import pytest
import yaml

from tests.support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_read_only(path) -> None:  # type: ignore[no-untyped-def]
    text = path.read_text()
    used = re.findall(r"uses: (.*)", text)
    assert used
    # A tag can be moved to another commit. The comment says which it was.
    assert [
        each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)
    ] == []
    assert "\npermissions:\n  contents: read\n\n" in text
    assert text.count("permissions:") == 1
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")
    assert "secrets." not in text
    assert "pull_request_target" not in text


def test_they_run_what_a_person_runs() -> None:
    told = set(re.findall(r"run: make (\w+)", "".join(each.read_text() for each in WORKFLOWS)))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"check", "test", "mac"} <= told <= targets


def test_the_report_of_a_mac_is_kept_also_when_something_hangs() -> None:
    # A step that takes too long has failed, and the next one runs; a job that does is cancelled.
    (job,) = (
        job
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        if any(step.get("run", "").startswith("make mac") for step in job["steps"])
    )
    limits = [step.get("timeout-minutes") for step in job["steps"] if "run" in step]
    assert None not in limits
    assert sum(limits) < job["timeout-minutes"]
    *_, mac, upload = job["steps"]
    assert mac["run"].startswith("make mac")
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == mac["if"] == "${{ !cancelled() }}"
