"""What the checks of compute units found, kept beside the compiled model.

A check that was passed is not repeated. One that crashed or hung is not repeated for a day: it may
cost minutes, and the server's patience with a model that loads has an end. Whatever else failed may
have been bad luck and is tried again. All of it holds for one machine and one build of macOS.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

from converter.json_files import UnreadableJsonError, read_json_object
from converter.replacing import replace_file
from converter.runtime.coreml_library import System
from converter.runtime.device_check import DeviceCheck

_REMEMBERED_SECONDS = 24 * 3600.0
_MOST_BYTES = 2**20


def read_record(compiled: Path, compute_units: str, system: System) -> DeviceCheck | None:
    """The check that need not be repeated; None where there is none.

    Args:
        compiled: the `.mlmodelc`.
    """
    try:
        record = read_json_object(_file(compiled, compute_units), _MOST_BYTES)
        check = DeviceCheck(**record["check"])
        if record["system"] != _as_dict(system):
            return None
        age = time.time() - record["time"]
    except (UnreadableJsonError, TypeError, KeyError):
        return None
    return check if check.usable or 0 <= age < _REMEMBERED_SECONDS else None


def write_record(compiled: Path, check: DeviceCheck, system: System) -> None:
    """Keep a check, if its outcome is one that is remembered."""
    if check.usable or check.outcome in ("crashed", "hung"):
        record = {"check": asdict(check), "system": _as_dict(system), "time": time.time()}
        replace_file(_file(compiled, check.compute_units), json.dumps(record).encode())


def _file(compiled: Path, compute_units: str) -> Path:
    return compiled.with_name(f"{compute_units}.json")


def _as_dict(system: System) -> dict[str, str]:
    return {"machine": system.machine, "os_build": system.os_build}
