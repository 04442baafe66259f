"""All steps one after the other; what was found is written as it is found."""

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from app.doctor.agent import examine_agent
from app.doctor.commands import CommandError
from app.doctor.compute_units import examine_compute_units
from app.doctor.conversion import examine_conversion
from app.doctor.environment import examine_environment
from app.doctor.features import examine_features
from app.doctor.findings import AnyFindings
from app.doctor.installation import examine_installation
from app.doctor.load import examine_load
from app.doctor.report import Report, StepName, StepReport, Verdict
from app.doctor.restart import examine_restart
from app.doctor.suite import examine_suite
from app.doctor.tuning import examine_tuning
from app.doctor.visit import SkippedStepError, Visit
from converter.errors import GenaError, brief

Examine: TypeAlias = Callable[[Visit], Generator[AnyFindings, None, None]]


@dataclass(frozen=True)
class Step:
    """One thing to try.

    Attributes:
        title: what it is called on the page and the terminal.
        examine: yields what it has found so far, again and again; the last counts.
    """

    name: StepName
    title: str
    examine: Examine


STEPS: tuple[Step, ...] = (
    Step("environment", "the machine", examine_environment),
    Step("installation", "the installation", examine_installation),
    Step("suite", "the tests", examine_suite),
    Step("conversion", "conversion", examine_conversion),
    Step("units", "compute units", examine_compute_units),
    Step("tuning", "gena tune", examine_tuning),
    Step("features", "features with curl", examine_features),
    Step("load", "load", examine_load),
    Step("restart", "restart of a killed model", examine_restart),
    Step("agent", "the launch agent", examine_agent),
)
TITLES = {step.name: step.title for step in STEPS}


class Listener(Protocol):
    """Who is told how far a run is."""

    def begun(self, step: Step) -> None:
        """A step begins."""

    def found(self, report: Report) -> None:
        """There is more in the report. A step that goes on stands in it as interrupted."""

    def ended(self, step: StepReport) -> None:
        """A step has ended."""


def examine(
    visit: Visit,
    report: Report,
    listener: Listener,
    *,
    skip: Collection[str] = (),
    steps: Sequence[Step] = STEPS,
) -> Report:
    """Run every step, whatever became of those before it.

    Args:
        report: without steps.
        skip: names of steps that are not wanted.

    Raises:
        KeyboardInterrupt: after the listener was told what was found until then.
    """
    for step in steps:
        listener.begun(step)
        if step.name in skip:
            reason = "it was not wanted."
            outcome = StepReport(name=step.name, verdict="skipped", seconds=0, reason=reason)
        else:
            outcome = _outcome(step, visit, partial(_tell, listener, report))
        report = _tell(listener, report, outcome)
        listener.ended(outcome)
    return report


def _tell(listener: Listener, report: Report, step: StepReport) -> Report:
    """The report with what a step has come to; the listener was told."""
    changed = report.model_copy(update={"steps": (*report.steps, step)})
    listener.found(changed)
    return changed


def _outcome(step: Step, visit: Visit, tell: Callable[[StepReport], object]) -> StepReport:
    began = time.monotonic()
    findings: AnyFindings | None = None

    def so_far(verdict: Verdict, reason: str | None = None) -> StepReport:
        return StepReport(
            name=step.name,
            verdict=verdict,
            seconds=round(time.monotonic() - began, 1),
            reason=reason,
            findings=findings,
        )

    try:
        with closing(step.examine(visit)) as found:
            for findings in found:  # noqa: B007, `so_far` reads it
                tell(so_far("interrupted"))
    except SkippedStepError as reason:
        return so_far("skipped", str(reason))
    except (CommandError, GenaError) as error:
        return so_far("failed", str(error))
    except KeyboardInterrupt:
        tell(so_far("interrupted", "It was interrupted."))
        raise
    except Exception as error:  # whatever it is: the next step is tried
        return so_far("failed", f"{type(error).__name__}: {brief(error)}")
    return so_far("failed" if findings is None or findings.problems else "passed")
