"""What the steps of one run share: a folder, what was converted, and how much is to be tried."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from converter.bundle.opening import Bundle
from converter.checkpoint.files import DEFAULT_MODEL, SHIPPED_MODELS
from converter.runtime.protocol import COMPUTE_UNITS

SMALL_MODEL = "gena-mini"


class SkippedStepError(Exception):
    """A step has nothing to do here; the message says why, in a sentence."""


@dataclass
class Visit:
    """One run.

    Args:
        scratch: a folder that is removed at the end; everything is written there.
        library: name of the module that is Core ML.
        on_a_mac: it is Core ML.
        models: checkpoints to convert, as `gena convert` takes them.
        tests: what the suite is, for pytest.
        say: tells the person at the terminal what is done now.

    Attributes:
        bundles: what was converted so far, by the name that the report calls it.
    """

    scratch: Path
    library: str
    on_a_mac: bool
    models: tuple[str, ...] = (SMALL_MODEL,)
    compute_units: tuple[str, ...] = COMPUTE_UNITS
    repeats: int = 50
    load_seconds: float = 600.0
    clients: int = 8
    tests: tuple[str, ...] = ("tests",)
    say: Callable[[str], object] = lambda _text: None
    bundles: dict[str, Bundle] = field(default_factory=dict)

    def bundle_to_serve(self) -> tuple[str, Bundle]:
        """Its name in the report, and the bundle: the last that was converted.

        Raises:
            SkippedStepError: none was.
        """
        if not self.bundles:
            raise SkippedStepError("no model was converted, so there is none to serve.")
        return list(self.bundles.items())[-1]

    def output(self, name: str) -> Path:
        """A file for what a command says."""
        return self.scratch / f"{name}.out"


def public_name(model: str) -> str:
    """What the report calls a checkpoint: the published ones by name, a person's own not."""
    return model if model in (DEFAULT_MODEL, *SHIPPED_MODELS) else "the model that was given"
