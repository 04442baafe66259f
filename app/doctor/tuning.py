"""Step: `gena tune`."""

import json
import re
from collections.abc import Generator

from app.doctor.commands import run
from app.doctor.compute_units import placement_text
from app.doctor.findings import Choice, Tuning
from app.doctor.visit import SkippedStepError, Visit
from app.model.children import module_command

_SECONDS = 2 * 3600.0


def examine_tuning(visit: Visit) -> Generator[Tuning, None, None]:
    """The choice is kept beside the bundle, where the service of the next steps finds it."""
    if not visit.on_a_mac:
        raise SkippedStepError("gena tune measures Core ML, which is on macOS only.")
    if not visit.bundles:
        raise SkippedStepError("no model was converted.")
    found = Tuning()
    for number, (model, bundle) in enumerate(visit.bundles.items()):
        visit.say(f"gena tune: {model}")
        command = module_command("converter", "tune", "--json", f"--repeats={visit.repeats}")
        command = [*command, "--compute-units", *visit.compute_units, "--", str(bundle.path)]
        done = run(command, visit.output(f"tune-{number}"), seconds=_SECONDS)
        chosen, placement = _choice(done.text)
        row = Choice(model=model, compute_units=chosen, seconds=done.seconds, placement=placement)
        problem = [] if chosen else [f"{model}: nothing was chosen. {done.last_words}"]
        found = Tuning(choices=(*found.choices, row), problems=(*found.problems, *problem))
        yield found


def _choice(said: str) -> tuple[str | None, str]:
    """The choice for the one bundle, and where its operations are, in what the command printed.

    That is a list of JSON, among whatever else was said.
    """
    found = re.search(r"^\[$.*?^\]$", said, re.MULTILINE | re.DOTALL)
    if found is None:
        return None, "unknown"
    tuned = json.loads(found[0])[0]
    choice: str | None = tuned["choice"]
    placements = [
        devices
        for check in tuned["measurements"]
        if check["compute_units"] == choice
        for devices in check["placement"].values()
    ]
    return choice, placement_text(placements[0] if placements else {})
