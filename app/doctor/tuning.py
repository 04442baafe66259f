"""Step: `gena tune`."""

import json
import re
from collections.abc import Generator

from app.doctor.commands import run
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
        chosen = _choice(done.text)
        row = Choice(model=model, compute_units=chosen, seconds=done.seconds)
        problem = [] if chosen else [f"{model}: nothing was chosen. {done.last_words}"]
        found = Tuning(choices=(*found.choices, row), problems=(*found.problems, *problem))
        yield found


def _choice(said: str) -> str | None:
    """Of the one bundle in what it printed: a list of JSON, among whatever else was said."""
    found = re.search(r"^\[$.*?^\]$", said, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    choice: str | None = json.loads(found[0])[0]["choice"]
    return choice
