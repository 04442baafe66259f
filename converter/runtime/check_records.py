"""What the checks of compute units found, kept beside the compiled model.

A check that was passed is not repeated. One that crashed or hung is not repeated for a day: it may
cost minutes, and the server's patience with a model that loads has an end. Whatever else failed may
have been bad luck and is tried again. All of it holds for one machine and one build of macOS.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from converter.json_files import UnreadableJsonError, read_json_object
from converter.replacing import replace_file
from converter.runtime.coreml_library import System
from converter.runtime.device_check import DeviceCheck

_REMEMBERED_SECONDS = 24 * 3600.0
# One has half a kilobyte.
_MOST_BYTES = 2**20


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    check: DeviceCheck
    system: dict[str, str]
    time: float


def read_record(compiled: Path, compute_units: str, system: System) -> DeviceCheck | None:
    """The check that need not be repeated; None where there is none, or what is there is no record.

    Args:
        compiled: the `.mlmodelc`.
    """
    try:
        found = read_json_object(_file(compiled, compute_units), _MOST_BYTES)
        # As JSON: in strict mode pydantic takes its objects, and no dict, for a dataclass.
        record = _Record.model_validate_json(json.dumps(found))
    except (UnreadableJsonError, ValidationError):
        return None
    check, age = record.check, time.time() - record.time
    if (check.compute_units, record.system) != (compute_units, _as_dict(system)):
        return None
    return check if check.usable or 0 <= age < _REMEMBERED_SECONDS else None


def write_record(compiled: Path, check: DeviceCheck, system: System) -> None:
    """Keep a check, if its outcome is one that is remembered; where that fails, it is repeated."""
    if check.usable or check.outcome in ("crashed", "hung"):
        record = {"check": asdict(check), "system": _as_dict(system), "time": time.time()}
        with suppress(OSError):
            replace_file(_file(compiled, check.compute_units), json.dumps(record).encode())


def forget_record(compiled: Path, compute_units: str) -> None:
    """The next one who wants to know checks again."""
    with suppress(OSError):
        _file(compiled, compute_units).unlink(missing_ok=True)


def _file(compiled: Path, compute_units: str) -> Path:
    return compiled.with_name(f"{compute_units}.json")


def _as_dict(system: System) -> dict[str, str]:
    return {"machine": system.machine, "os_build": system.os_build}
