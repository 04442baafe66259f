"""The report as one page of Markdown."""

from collections.abc import Iterator, Sequence

from app.doctor.evidence import core_ml_answered, is_virtual
from app.doctor.examination import TITLES
from app.doctor.findings import Findings, Row
from app.doctor.report import Report, StepReport
from app.unproven import unproven

_STAND_IN = (
    "**This was no Mac.** A stand-in executed the package with PyTorch in Core ML's place, and the "
    "service ran without it. It shows that the steps work; no figure in here tells of a Mac."
)
_ON_A_MAC = "Core ML answered; every figure was measured on this Mac."
_VIRTUAL = (
    "**This was a virtual machine**, which has no Neural Engine: what says CPU_AND_NE or ALL was "
    "computed elsewhere."
)
_UNANSWERED = "**This was a Mac, and Core ML gave no right answer in this run**, or was not asked."


def page(report: Report) -> str:
    """Everything that the report holds, for people."""
    parts = [
        f"# What `gena doctor` found, gena-coreml {report.version}",
        _whereabouts(report),
        f"Begun {report.began} UTC: {summary(report)}.",
        "\n".join(_table(("step", "outcome", "s"), [_overview(step) for step in report.steps])),
        *_complaints(report),
        *_shown(report),
    ]
    for step in report.steps:
        if step.findings is not None:
            parts += [f"## {_capital(TITLES[step.name])}", *_findings(step.findings)]
    return "\n\n".join(parts) + "\n"


def _whereabouts(report: Report) -> str:
    if not report.on_a_mac:
        return _STAND_IN
    said = _ON_A_MAC if core_ml_answered(report) else _UNANSWERED
    return f"{said}\n\n{_VIRTUAL}" if is_virtual(report) else said


def summary(report: Report) -> str:
    """How many steps came to what."""
    counts = {
        verdict: len(report.having(verdict))
        for verdict in ("passed", "failed", "interrupted", "skipped")
    }
    said = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"of {len(report.steps)} steps, {', '.join(said)}" if said else "no step has ended"


def _overview(step: StepReport) -> tuple[str, str, str]:
    because = f": {step.reason}" if step.verdict == "skipped" and step.reason else ""
    verdict = step.verdict if step.verdict in ("passed", "skipped") else f"**{step.verdict}**"
    return TITLES[step.name], verdict + because, f"{step.seconds:.1f}"


def _complaints(report: Report) -> Iterator[str]:
    lines = [
        f"- {TITLES[step.name]}: {complaint}"
        for step in report.steps
        for complaint in step.complaints
    ]
    if lines:
        yield "## What is not as it should be"
        yield "\n".join(lines)


def _shown(report: Report) -> Iterator[str]:
    texts = [each.text for each in unproven() if each.name in report.shown]
    if texts:
        yield "## What no Mac had run before"
        yield "\n".join(f"- {text}" for text in texts)


def _findings(findings: Findings) -> Iterator[str]:
    facts, tables = [], []
    for name, field in type(findings).model_fields.items():
        value = getattr(findings, name)
        if field.title is None or value is None or value == ():
            continue
        if isinstance(value, tuple):
            tables += [f"{_capital(field.title)}:", "\n".join(_rows(value))]
        else:
            facts.append((field.title, _cell(value)))
    if facts:
        yield "\n".join(f"- {title}: {value}" for title, value in facts)
    yield from tables


def _rows(rows: Sequence[Row]) -> list[str]:
    fields = type(rows[0]).model_fields
    titles = [field.title or name for name, field in fields.items()]
    return _table(titles, [[_cell(getattr(row, name)) for name in fields] for row in rows])


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e5 else str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
