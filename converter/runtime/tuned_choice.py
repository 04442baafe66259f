"""The choice of compute units that `gena tune` made: written beside a bundle, read at its start.

Beside and not inside: a rebuilt bundle replaces its folder, and a bundle may be shared by
machines. There is one choice for each machine and build of macOS.
"""

import json
from pathlib import Path
from typing import Any

from converter.bundle.opening import Bundle
from converter.errors import GenaError
from converter.json_files import UnreadableJsonError, read_json_object
from converter.replacing import replace_file
from converter.runtime.coreml_library import System
from converter.runtime.protocol import COMPUTE_UNITS

# Each machine and each build of macOS adds a kilobyte or so.
_MOST_BYTES = 4 * 2**20


def choice_file(bundle: Bundle) -> Path:
    """`NAME.tune.json` beside the bundle `NAME`."""
    folder = bundle.path.resolve()
    return folder.with_name(f"{folder.name}.tune.json")


def read_choice(bundle: Bundle, system: System) -> str | None:
    """The tuned compute units; None where this bundle was not tuned on this machine and macOS."""
    entry = _read(choice_file(bundle)).get(_key(system))
    if not isinstance(entry, dict) or entry.get("fingerprint") != bundle.manifest.fingerprint:
        return None
    units = entry.get("compute_units")
    return units if units in COMPUTE_UNITS else None


def write_choice(
    bundle: Bundle, system: System, compute_units: str, measurements: list[dict[str, Any]]
) -> Path:
    """Record a choice and what it was made from; the file it is in.

    Raises:
        GenaError: it cannot be written.
    """
    path = choice_file(bundle)
    entries = _read(path)
    entries[_key(system)] = {
        "fingerprint": bundle.manifest.fingerprint,
        "compute_units": compute_units,
        "measurements": measurements,
    }
    text = json.dumps(entries, indent=2) + "\n"
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise GenaError(
            f"{path} cannot be written ({error.strerror}): {compute_units} was chosen, and is not "
            "kept. Set GENA_COMPUTE_UNITS to it, or mend that and tune again."
        ) from error
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, _MOST_BYTES)
    except UnreadableJsonError:  # none was made, or none that can be used
        return {}


def _key(system: System) -> str:
    return f"{system.machine}, macOS build {system.os_build}"
