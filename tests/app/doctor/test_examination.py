"""One step after the other, whatever becomes of those before."""

from collections.abc import Generator

import pytest

from app.doctor.commands import CommandError
from app.doctor.examination import Examine, Step, examine
from app.doctor.findings import Suite
from app.doctor.report import Report
from app.doctor.visit import SkippedStepError, Visit
from tests.support.doctor import Listener

EMPTY = Report(version="0", began="", on_a_mac=False)


def ending_with(error: BaseException | None, *, problems: tuple[str, ...] = ()) -> Examine:
    """A step that finds something, and then ends so."""

    def examine_something(_visit: Visit) -> Generator[Suite, None, None]:
        yield Suite(passed=1)
        if error is not None:
            raise error
        yield Suite(passed=2, problems=problems)

    return examine_something


def test_what_fails_does_not_stop_the_rest(visit: Visit) -> None:
    endings = [
        ending_with(ZeroDivisionError("division by zero")),
        ending_with(CommandError("curl is not here.")),
        ending_with(SkippedStepError("there is nothing to do.")),
        ending_with(None, problems=("A test failed.",)),
        ending_with(None),
    ]
    listener = Listener()
    report = examine(visit, EMPTY, listener, steps=[Step("suite", "", each) for each in endings])

    assert [(step.verdict, step.reason) for step in report.steps] == [
        ("failed", "ZeroDivisionError: division by zero"),
        ("failed", "curl is not here."),
        ("skipped", "there is nothing to do."),
        ("failed", None),
        ("passed", None),
    ]
    # What was found before an end is kept.
    found = [step.findings.passed for step in report.steps if isinstance(step.findings, Suite)]
    assert found == [1, 1, 1, 2, 2]
    assert report.steps[3].complaints == ("A test failed.",)
    assert not report.well
    assert listener.steps == list(report.steps)


def test_an_interrupt_ends_it_and_what_was_found_is_told(visit: Visit) -> None:
    tidied = []

    def examine_for_long(_visit: Visit) -> Generator[Suite, None, None]:
        try:
            yield Suite(passed=1)
            raise KeyboardInterrupt
        finally:
            tidied.append("up")

    steps = [
        Step("suite", "", ending_with(None)),
        Step("suite", "", examine_for_long),
        Step("suite", "", ending_with(None)),
    ]
    listener = Listener()
    with pytest.raises(KeyboardInterrupt):
        examine(visit, EMPTY, listener, steps=steps)

    assert tidied == ["up"]
    last = listener.reports[-1]
    assert [step.verdict for step in last.steps] == ["passed", "interrupted"]
    assert last.steps[1].findings == Suite(passed=1)
    assert last.interrupted
    assert not last.well


def test_a_step_that_goes_on_is_told_as_interrupted(visit: Visit) -> None:
    # A run that is killed leaves what was told last.
    listener = Listener()
    examine(visit, EMPTY, listener, steps=[Step("suite", "", ending_with(None))])
    verdicts = [report.steps[-1].verdict for report in listener.reports]
    assert verdicts == ["interrupted", "interrupted", "passed"]


def test_a_step_that_is_not_wanted_is_skipped(visit: Visit) -> None:
    step = Step("suite", "", ending_with(ZeroDivisionError()))
    report = examine(visit, EMPTY, Listener(), skip=["suite"], steps=[step])
    assert (report.steps[0].verdict, report.steps[0].reason) == ("skipped", "it was not wanted.")
    assert report.well
