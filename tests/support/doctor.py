"""A run of `gena doctor` without its command."""

from app.doctor.examination import STEPS, Step, examine
from app.doctor.report import Report, StepReport
from app.doctor.visit import Visit


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.steps: list[StepReport] = []

    def begun(self, step: Step) -> None:
        """Nothing to remember."""

    def found(self, report: Report) -> None:
        self.reports.append(report)

    def ended(self, step: StepReport) -> None:
        self.steps.append(step)


def outcomes(visit: Visit, *names: str) -> dict[str, StepReport]:
    """What these steps come to, by name."""
    empty = Report(version="0", began="", on_a_mac=visit.on_a_mac)
    steps = [step for step in STEPS if step.name in names]
    report = examine(visit, empty, Listener(), steps=steps)
    return {step.name: step for step in report.steps}
