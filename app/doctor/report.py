"""The report: what every step came to. Written as JSON; the page is made of the same."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.doctor.findings import AnyFindings

Verdict = Literal["passed", "failed", "skipped", "interrupted"]
StepName = Literal[
    "environment",
    "installation",
    "suite",
    "conversion",
    "units",
    "tuning",
    "features",
    "load",
    "restart",
    "agent",
]


class StepReport(BaseModel):
    """What one step came to.

    Attributes:
        reason: why it was skipped, or what ended it before its end; a sentence.
        findings: what it had found by then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: StepName
    verdict: Verdict
    seconds: float
    reason: str | None = None
    findings: Annotated[AnyFindings, Field(discriminator="step")] | None = None

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that is not as it should be, a sentence each."""
        ended = (self.reason,) if self.reason and self.verdict != "skipped" else ()
        return (*(self.findings.problems if self.findings else ()), *ended)


class Report(BaseModel):
    """One run of `gena doctor`.

    Attributes:
        version: of this project.
        began: UTC, to the minute.
        on_a_mac: Core ML answered; else a stand-in that executes the same package with PyTorch.
        steps: those that ran or were skipped, in that order.
        shown: names of what this run shows that no Mac had run before (see `app.unproven`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: str
    began: str
    on_a_mac: bool
    steps: tuple[StepReport, ...] = ()
    shown: tuple[str, ...] = ()

    def having(self, verdict: Verdict) -> list[StepReport]:
        """The steps of one verdict."""
        return [step for step in self.steps if step.verdict == verdict]

    @property
    def interrupted(self) -> bool:
        """It ended before its end."""
        return bool(self.having("interrupted"))

    @property
    def well(self) -> bool:
        """Nothing failed, and nothing was cut short."""
        return not self.having("failed") and not self.interrupted
