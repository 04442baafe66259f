"""Step: the machine, its system and the Python that runs this."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

from app.doctor.commands import ROOT
from app.doctor.findings import Environment
from app.doctor.visit import Visit

_OLDEST_MACOS = 14
_FREE_GIB = 3.0


def examine_environment(visit: Visit) -> Generator[Environment, None, None]:
    """Nothing is installed or changed."""
    on_macos = sys.platform == "darwin"
    free = shutil.disk_usage(visit.scratch).free / 2**30
    problems = [*_macos_problems()] if on_macos else []
    if free < _FREE_GIB:
        problems.append(f"Only {free:.1f} GiB are free on the disk; {_FREE_GIB:g} are needed.")
    yield Environment(
        system=_macos() if on_macos else f"{platform.system()} {platform.release()}",
        machine=_said("sysctl", "-n", "hw.model") if on_macos else platform.machine(),
        virtual=is_virtual() if on_macos else None,
        processor=_processor(on_macos),
        cores=os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        free_disk_gib=round(free, 1),
        power=_power() if on_macos else None,
        python=f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.machine()}",
        source=_source(),
        problems=tuple(problems),
    )


def is_virtual() -> bool:
    """Whether this macOS runs in a virtual machine, which has no Neural Engine."""
    return _said("sysctl", "-n", "kern.hv_vmm_present") == "1"


def _macos() -> str:
    # Python itself says 16.0 on macOS 26 where it was built for an older one.
    version = _said("sw_vers", "-productVersion") or platform.mac_ver()[0]
    return f"macOS {version} ({_said('sysctl', '-n', 'kern.osversion')})"


def _macos_problems() -> Iterator[str]:
    if int(platform.mac_ver()[0].partition(".")[0]) < _OLDEST_MACOS:
        yield f"macOS {_OLDEST_MACOS} or later is needed."
    if platform.machine() != "arm64":
        yield "A Mac with Apple silicon is needed, and a Python that runs on it natively."


def _processor(on_macos: bool) -> str:
    if on_macos:
        fast = _said("sysctl", "-n", "hw.perflevel0.physicalcpu")
        name = _said("sysctl", "-n", "machdep.cpu.brand_string")
        return f"{name}, {fast} performance cores" if fast else name
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _power() -> str:
    """Figures of a Mac on its battery, or that saves energy, are lower."""
    drawing = _said("pmset", "-g", "batt").partition("\n")[0].partition("'")[2].partition("'")[0]
    saving = any(
        line.split()[0] == "lowpowermode" and line.split()[-1] == "1"
        for line in _said("pmset", "-g").splitlines()
        if line.strip()
    )
    return f"{drawing or 'unknown'}{', low power mode' if saving else ''}"


def _source() -> str:
    if not (ROOT / "pyproject.toml").is_file():
        return "installed, no clone"
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    if not commit:
        return "a copy without its history"
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"a clone at {commit}{', with changes' if changed else ''}"


def _said(*command: str) -> str:
    """What a command prints; nothing where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
