"""A run of `gena doctor` without its command."""

from app.doctor.examination import STEPS, Step, examine
from app.doctor.findings import (
    Agent,
    AnyFindings,
    Choice,
    ComputeUnits,
    Conversions,
    Environment,
    Features,
    Installation,
    Load,
    Restart,
    Suite,
    Tuning,
    UnitCheck,
)
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


def found_on_a_mac() -> dict[str, AnyFindings]:
    """What the steps of a run find where all is well, by the name of the step."""
    served = {"model": "gena-mini", "runtime": "coreml, CPU_AND_NE", "ready_seconds": 1.0}
    check = UnitCheck(model="gena-mini", compute_units="CPU_AND_NE", length=512, outcome="expected")
    choice = Choice(
        model="gena-mini", compute_units="CPU_AND_NE", seconds=9.0, placement="NeuralEngine 40"
    )
    findings: list[AnyFindings] = [
        Environment(
            system="macOS 26.1 (25B78)",
            machine="Mac16,1",
            virtual=False,
            processor="Apple M4",
            cores=10,
            free_disk_gib=100.0,
            python="CPython 3.12.9, arm64",
            source="a clone",
        ),
        Installation(core_ml="can be called"),
        Suite(passed=2000),
        Conversions(),
        ComputeUnits(repeats=50, checks=(check,)),
        Tuning(choices=(choice,)),
        Features(**served),
        Load(**served, clients=8, seconds=600.5, requests=9000),
        Restart(**served, again_seconds=1.0, same_answer=True, kept=True),
        Agent(ready_seconds=2.0, removed=True),
    ]
    return {each.step: each for each in findings}
