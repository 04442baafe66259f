"""A model process without a model: the real child around a runtime of a few lines.

`features[i, j] = ids[i] + j / 1024`. Some ids provoke what they are named after.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.model.child import main
from converter.bundle.opening import Bundle
from converter.errors import CheckpointError, PredictionError
from converter.pooling import Poolings, of_each, pooled

HIDDEN = 64
KILLED, HANGS, RAISES, NOT_FINITE, SLOW = 300, 301, 302, 303, 304
KILLED = int(os.environ.get("STAND_IN_KILLED", KILLED))
SLOW_SECONDS = 0.2
# Of a load in steps.
_STEPS, STEP_SECONDS = 5, 1.0


class StandInRuntime:
    name = "stand-in"
    compute_units = "none"
    compute = "fp32"
    device_checks = None
    lengths: tuple[int, ...] = (128, 512)

    def __init__(self, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens

    def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> list[NDArray[np.float32]]:
        rows = self._predict(np.concatenate(windows))
        lengths = [len(window) for window in windows]
        each = np.split(rows, np.cumsum(lengths)[:-1])
        return list(map(pooled, each, of_each(poolings, lengths)))

    def _predict(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        if KILLED in input_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANGS in input_ids:
            time.sleep(1000)
        if RAISES in input_ids:
            raise ValueError("ACGT" * 100)
        if NOT_FINITE in input_ids:
            raise PredictionError("The model gave values that are not finite numbers.")
        if SLOW in input_ids:
            time.sleep(SLOW_SECONDS)
        columns = np.arange(HIDDEN, dtype=np.float32) / np.float32(1024)
        features: NDArray[np.float32] = input_ids[..., None].astype(np.float32) + columns
        return features

    def warm_up(self) -> None:
        """It is warm."""


def load(
    bundle: Bundle, _arguments: argparse.Namespace, on_step: Callable[[str], None]
) -> StandInRuntime:
    """Fails as a file in the bundle's parent folder says: once for every line in it."""
    orders = bundle.path.parent / "load_faults"
    if orders.exists():
        first, _, rest = orders.read_text().partition("\n")
        orders.write_text(rest)
        if first == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if first == "refuse":
            raise CheckpointError("refused by the test.")
        if first == "raise":
            raise RuntimeError("raised by the test")
        if first == "steps":
            for number in range(_STEPS):
                on_step(f"step {number}")
                time.sleep(STEP_SECONDS)
        if first == "exchange":
            exchange(bundle.path)
        if first == "exchange, raise":
            exchange(bundle.path)
            raise RuntimeError("this is half of one package and half of another")
        if first == "exchange twice":
            exchange(bundle.path)
            exchange(bundle.path)
    return StandInRuntime(int(os.environ.get("STAND_IN_BATCH_TOKENS", "1")))


def exchange(bundle: Path) -> None:
    """Another bundle takes the place of this one; it lies at `other`, and this one does then."""
    other, away = bundle.with_name("other"), bundle.with_name("away")
    bundle.rename(away)
    other.rename(bundle)
    away.rename(other)


if __name__ == "__main__":
    sys.exit(main(load=load))
