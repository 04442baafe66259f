"""Step: is everything installed that is needed, in the versions that were tried?"""

import re
import sys
from collections.abc import Generator

from app.doctor.commands import ROOT, CommandError, run
from app.doctor.findings import Installation, Version
from app.doctor.visit import Visit
from app.model.children import module_command
from converter.versions import DISTRIBUTION, installed_versions

_NAMES = (DISTRIBUTION, "coremltools", "torch", "numpy", "tokenizers", "fastapi", "uvicorn", "h11")
# Without it coremltools imports, warns, and cannot predict.
_NATIVE = "import coremltools.libcoremlpython"
_SECONDS = 180.0


def examine_installation(visit: Visit) -> Generator[Installation, None, None]:
    """Versions, pip's own check, the command; on a Mac, the part of coremltools that predicts."""
    problems = []
    core_ml = "a stand-in: this is no Mac"
    if visit.on_a_mac:
        done = run([sys.executable, "-P", "-c", _NATIVE], visit.output("native"), seconds=_SECONDS)
        core_ml = "can be called" if done.returncode == 0 else "cannot be called"
        if done.returncode != 0:
            problems.append(f"coremltools has no part that predicts: {done.last_words}")
    visit.say("the command and pip's check")
    command_seconds = None
    try:
        done = run(module_command("app.cli", "--help"), visit.output("help"), seconds=_SECONDS)
        command_seconds = done.seconds
        if done.returncode != 0:
            problems.append(f"gena --help failed: {done.last_words}")
        done = run([sys.executable, "-m", "pip", "check"], visit.output("pip"), seconds=_SECONDS)
        if done.returncode != 0:
            problems.append(f"pip check: {done.last_words}")
    except CommandError as error:
        problems.append(str(error))
    found = installed_versions(_NAMES)
    problems += [f"{name} is not installed." for name in _NAMES if name not in found]
    for name, tried in _constraints().items():
        # A build of torch for CPUs calls itself 2.13.0+cpu.
        if name in found and found[name].partition("+")[0] != tried:
            problems.append(f"{name} is {found[name]}; constraints.txt has {tried}.")
    yield Installation(
        core_ml=core_ml,
        command_seconds=command_seconds,
        versions=tuple(Version(name=name, version=each) for name, each in found.items()),
        problems=tuple(problems),
    )


def _constraints() -> dict[str, str]:
    """Version by name, from a clone's constraints; an installed wheel has none."""
    file = ROOT / "constraints.txt"
    if not file.is_file():
        return {}
    return dict(re.findall(r"^([\w.-]+)==([\w.+]+)", file.read_text(), re.MULTILINE))
