"""The page, and the one that is kept as an example."""

from app.doctor.findings import Suite
from app.doctor.rendering import page
from app.doctor.report import Report, StepReport
from tests.support.paths import ROOT

EXAMPLE = ROOT / "docs" / "mac-report-example.md"


def test_the_example_is_what_the_recorded_run_prints() -> None:
    report = Report.model_validate_json(EXAMPLE.with_suffix(".json").read_bytes())
    assert page(report) == EXAMPLE.read_text()
    assert not report.on_a_mac
    assert len(report.steps) == 10


def test_what_is_wrong_stands_before_the_details() -> None:
    suite = Suite(passed=3, failed=1, problems=("Failed: a | test.",))
    steps = (
        StepReport(name="suite", verdict="failed", seconds=2.25, findings=suite),
        StepReport(name="agent", verdict="skipped", seconds=0, reason="it was not wanted."),
        StepReport(name="load", verdict="interrupted", seconds=1, reason="It was interrupted."),
    )
    text = page(Report(version="1.2", began="2026-01-01 12:00", on_a_mac=True, steps=steps))
    assert "of 3 steps, 1 failed, 1 interrupted, 1 skipped" in text
    assert "| the tests | **failed** | 2.2 |" in text
    assert "| the launch agent | skipped: it was not wanted. | 0.0 |" in text
    wrong, _, details = text.partition("## The tests")
    assert "- the tests: Failed: a | test." in wrong
    assert "- load: It was interrupted." in wrong
    assert "- passed: 3\n- failed: 1" in details
