"""Step: the models are converted and verified."""

import json
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from app.doctor.commands import CommandError, Done, run
from app.doctor.findings import Conversion, Conversions, Gate
from app.doctor.visit import Visit, public_name
from app.model.children import module_command
from converter.bundle.opening import Bundle, open_bundle
from converter.errors import GenaError

_SECONDS = 3 * 3600.0


def examine_conversion(visit: Visit) -> Generator[Conversions, None, None]:
    """Each into a folder of this run; after one that cannot be converted, the next is tried."""
    found = Conversions()
    for number, model in enumerate(visit.models):
        name = public_name(model)
        folder = visit.scratch / "bundles" / str(number)
        command = module_command("converter", "convert", "--progress=json", f"--model={model}")
        told = _Progress(visit, name)
        try:
            done = run(
                [*command, f"--output={folder}"],
                visit.output(f"convert-{number}"),
                seconds=_SECONDS,
                on_line=told,
            )
            if done.returncode != 0:
                raise CommandError(told.error or done.last_words)
            bundle = open_bundle(folder)
        except (CommandError, GenaError) as error:
            found = found.model_copy(
                update={"problems": (*found.problems, f"{name} was not converted: {error}")}
            )
        else:
            visit.bundles[name] = bundle
            found = _with(found, name, bundle, done)
        yield found


class _Progress:
    """Reads the converter's lines.

    Attributes:
        error: why it refused, in its own words.
    """

    def __init__(self, visit: Visit, name: str) -> None:
        self.error = ""
        self._visit, self._name = visit, name
        self._stage = ""

    def __call__(self, line: str) -> None:
        with suppress(ValueError):
            event: Any = json.loads(line)
            match event:
                case {"stage": str(stage)} if stage != self._stage:
                    self._stage = stage
                    self._visit.say(f"{self._name}: {stage}")
                case {"error": {"message": str(message)}}:
                    self.error = message


def _with(found: Conversions, name: str, bundle: Bundle, done: Done) -> Conversions:
    manifest = bundle.manifest
    gates = tuple(
        Gate(model=name, **{key: gate[key] for key in Gate.model_fields if key != "model"})
        for gate in manifest.fidelity["gates"]
    )
    row = Conversion(
        model=name,
        seconds=done.seconds,
        peak_mib=round(done.peak_mib),
        fingerprint=manifest.fingerprint,
        precision=manifest.precision["chosen"],
        verdict=manifest.fidelity["flag"],
    )
    return found.model_copy(
        update={"conversions": (*found.conversions, row), "gates": (*found.gates, *gates)}
    )
