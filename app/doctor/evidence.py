"""Which steps of a run show what no Mac had run before: those that really did it, and on a Mac.

A step passes where nothing is wrong; that need not mean that Core ML was at work in it for long.
"""

from app.doctor.findings import (
    AnyFindings,
    ComputeUnits,
    Environment,
    Features,
    Load,
    Restart,
    Suite,
    Tuning,
)
from app.doctor.report import Report

# "Minutes of load."
_LONG_SECONDS = 300.0
_UNKNOWN = "unknown"


def core_ml_answered(report: Report) -> bool:
    """Whether predictions by Core ML were right, with some compute units."""
    found = (step.findings for step in report.steps)
    return report.on_a_mac and any(
        check.outcome in ("expected", "flagged")
        for each in found
        if isinstance(each, ComputeUnits)
        for check in each.checks
    )


def is_virtual(report: Report) -> bool:
    """Whether the run was in a virtual machine, which has no Neural Engine."""
    return any(
        isinstance(step.findings, Environment) and step.findings.virtual is True
        for step in report.steps
    )


def shown_steps(report: Report) -> set[str]:
    """Names of the steps by which a Mac has shown something; see `app.unproven`."""
    if not report.on_a_mac:
        return set()
    virtual = is_virtual(report)
    return {
        step.name
        for step in report.having("passed")
        if step.findings is not None and _shows(step.findings, virtual=virtual)
    }


def _shows(findings: AnyFindings, *, virtual: bool) -> bool:
    match findings:
        case ComputeUnits():
            return bool(findings.checks) and not virtual
        case Tuning():
            return any(row.placement != _UNKNOWN for row in findings.choices) and not virtual
        case Load():
            return _by_core_ml(findings) and findings.seconds >= _LONG_SECONDS
        case Restart():
            return _by_core_ml(findings) and findings.kept is True
        case Features():
            return _by_core_ml(findings)
        case Suite():
            return findings.passed > 0
        case _:
            return True


def _by_core_ml(findings: Features | Load | Restart) -> bool:
    return findings.runtime.startswith("coreml")
