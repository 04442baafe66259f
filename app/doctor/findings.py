"""What each step finds: the report's JSON, and, by the titles of its fields, the report's page.

A field that is a tuple of rows is a table on the page, any other one line.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Row(BaseModel):
    """One line of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Findings(Row):
    """Of one step.

    Attributes:
        problems: what is not as it should be, a sentence each; a step without any has passed.
    """

    problems: tuple[str, ...] = ()


class Version(Row):
    name: str = Field(title="distribution")
    version: str = Field(title="version")


class Environment(Findings):
    step: Literal["environment"] = "environment"
    system: str = Field(title="system")
    machine: str = Field(title="machine")
    virtual: bool | None = Field(None, title="a virtual machine, without a Neural Engine")
    processor: str = Field(title="processor")
    cores: int = Field(title="cores")
    memory_gib: float | None = Field(None, title="memory, GiB")
    free_disk_gib: float = Field(title="free on the disk, GiB")
    power: str | None = Field(None, title="power")
    python: str = Field(title="Python")
    source: str = Field(title="source")


class Installation(Findings):
    step: Literal["installation"] = "installation"
    core_ml: str = Field(title="Core ML")
    command_seconds: float | None = Field(None, title="`gena --help`, s")
    versions: tuple[Version, ...] = Field((), title="what is installed")


class SkippedTests(Row):
    count: int = Field(title="tests")
    reason: str = Field(title="skipped because")


class Suite(Findings):
    step: Literal["suite"] = "suite"
    passed: int = Field(0, title="passed")
    failed: int = Field(0, title="failed")
    skipped: int = Field(0, title="skipped")
    reasons: tuple[SkippedTests, ...] = Field((), title="skipped")


class Conversion(Row):
    model: str = Field(title="model")
    seconds: float = Field(title="s")
    peak_mib: float = Field(title="peak memory, MiB")
    fingerprint: str = Field(title="fingerprint")
    precision: str = Field(title="precision")
    verdict: str = Field(title="verdict")


class Gate(Row):
    model: str = Field(title="model")
    gate: str = Field(title="gate")
    psnr_db: float | None = Field(None, title="dB (none: equal)")
    worst_cosine: float = Field(title="worst cosine")
    verdict: str = Field(title="verdict")


class Conversions(Findings):
    step: Literal["conversion"] = "conversion"
    conversions: tuple[Conversion, ...] = Field((), title="conversions, verified")
    gates: tuple[Gate, ...] = Field((), title="the package executed, against the reference")


class Compilation(Row):
    model: str = Field(title="model")
    seconds: float = Field(title="compiled in, s")


class UnitCheck(Row):
    model: str = Field(title="model")
    compute_units: str = Field(title="compute units")
    length: int = Field(title="tokens")
    outcome: str = Field(title="outcome")
    psnr_db: float | None = Field(None, title="dB")
    worst_cosine: float | None = Field(None, title="worst cosine")
    cold_seconds: float | None = Field(None, title="cold load, s")
    warm_seconds: float | None = Field(None, title="warm load, s")
    median_ms: float | None = Field(None, title="median, ms")
    p95_ms: float | None = Field(None, title="p95, ms")
    memory_mib: float | None = Field(None, title="peak memory, MiB")
    placement: str = Field("unknown", title="operations on")


class ComputeUnits(Findings):
    step: Literal["units"] = "units"
    repeats: int = Field(title="predictions timed a length")
    compilations: tuple[Compilation, ...] = Field((), title="compilation")
    checks: tuple[UnitCheck, ...] = Field((), title="every unit and length")


class Choice(Row):
    model: str = Field(title="model")
    compute_units: str | None = Field(title="chosen")
    seconds: float = Field(title="s")
    placement: str = Field("unknown", title="its operations on")


class Tuning(Findings):
    step: Literal["tuning"] = "tuning"
    choices: tuple[Choice, ...] = Field((), title="what was chosen")


class Answer(Row):
    request: str = Field(title="request")
    status: int = Field(title="status")
    milliseconds: float = Field(title="ms")
    n_bytes: int = Field(title="bytes")
    psnr_db: float | None = Field(None, title="dB against the reference")


class LogLine(Row):
    count: int = Field(title="times")
    line: str = Field(title="warning or error")


class Served(Findings):
    """Of a step that asks a server: which model it was, and by what it was computed."""

    model: str = Field(title="model")
    runtime: str = Field(title="runtime")
    ready_seconds: float = Field(title="from start to ready, s")
    log: tuple[LogLine, ...] = Field((), title="what the service's log warns of")


class Features(Served):
    step: Literal["features"] = "features"
    answers: tuple[Answer, ...] = Field((), title="asked with curl")


class Load(Served):
    step: Literal["load"] = "load"
    clients: int = Field(title="clients")
    seconds: float = Field(0.0, title="for, s")
    requests: int = Field(0, title="answered with 200")
    median_ms: float | None = Field(None, title="median, ms")
    p95_ms: float | None = Field(None, title="p95, ms")
    longest_ms: float | None = Field(None, title="longest, ms")
    first_median_ms: float | None = Field(None, title="median of the first tenth, ms")
    last_median_ms: float | None = Field(None, title="median of the last tenth, ms")
    server_mib: float | None = Field(None, title="server's memory at the end, MiB")
    model_mib: float | None = Field(None, title="model's memory at the end, MiB")
    model_growth_mib: float | None = Field(None, title="of that, grown since the middle, MiB")


class Restart(Served):
    step: Literal["restart"] = "restart"
    again_seconds: float | None = Field(None, title="ready again after the model was killed, s")
    same_answer: bool | None = Field(None, title="the same answer as before")
    kept: bool | None = Field(None, title="nothing was compiled or checked again")


class Agent(Findings):
    step: Literal["agent"] = "agent"
    ready_seconds: float | None = Field(None, title="from install to ready, s")
    again_seconds: float | None = Field(None, title="ready again after the server was killed, s")
    removed: bool | None = Field(None, title="nothing is left of it")


AnyFindings = (
    Environment
    | Installation
    | Suite
    | Conversions
    | ComputeUnits
    | Tuning
    | Features
    | Load
    | Restart
    | Agent
)
