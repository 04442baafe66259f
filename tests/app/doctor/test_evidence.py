"""What of a run shows that a Mac did it: a step that passed may have shown nothing."""

from typing import Any

import pytest

from app.doctor.evidence import shown_steps
from app.doctor.rendering import page
from app.doctor.report import Report, StepReport
from app.unproven import shown_by, unproven
from tests.support.doctor import found_on_a_mac


def run(*, on_a_mac: bool = True, **changed: dict[str, Any]) -> Report:
    """A run in which every step passed; some found something else, by the name of the step."""
    steps = tuple(
        StepReport(
            name=name,
            verdict="passed",
            seconds=1,
            findings=found.model_copy(update=changed.get(name, {})),
        )
        for name, found in found_on_a_mac().items()
    )
    return Report(version="0", began="", on_a_mac=on_a_mac, steps=steps)


def test_a_whole_run_on_a_mac_shows_all_that_steps_can_show() -> None:
    report = run()
    assert set(shown_by(shown_steps(report))) == {e.name for e in unproven() if e.shown_by}
    assert "Core ML answered" in page(report)
    assert shown_steps(run(on_a_mac=False)) == set()


ON_TORCH = {"runtime": "torch, cpu"}


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        pytest.param({"load": {"seconds": 5.0}}, {"endurance"}, id="five seconds are no minutes"),
        pytest.param({"load": ON_TORCH}, {"endurance"}, id="load on another runtime"),
        pytest.param(
            {"features": ON_TORCH},
            {"predictions", "compiled_models"},
            id="features of another runtime",
        ),
        pytest.param(
            {"restart": {"kept": False}},
            {"checks", "compiled_models"},
            id="compiled or checked again",
        ),
        pytest.param(
            {"tuning": {"choices": ()}}, {"tuning"}, id="nobody was told where operations run"
        ),
        pytest.param({"suite": {"passed": 0, "skipped": 9}}, {"exchange"}, id="no test ran"),
        pytest.param(
            {"environment": {"virtual": True}},
            {"predictions", "checks", "tuning"},
            id="in a virtual machine",
        ),
    ],
)
def test_what_was_not_really_done_is_not_shown(
    changed: dict[str, dict[str, Any]], missing: set[str]
) -> None:
    everything = set(shown_by(shown_steps(run())))
    assert everything - set(shown_by(shown_steps(run(**changed)))) == missing


def test_the_page_says_where_core_ml_did_not_answer() -> None:
    silent = page(run(units={"checks": ()}))
    assert "Core ML answered" not in silent
    assert "Core ML gave no right answer" in silent
    assert "a virtual machine" in page(run(environment={"virtual": True})).partition("## ")[0]
