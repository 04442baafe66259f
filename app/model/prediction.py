"""What a model is to the queue in front of it: something that predicts, and may die of it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Two windows are with the model: it computes one while the answer of the other travels.
IN_FLIGHT = 2

WindowIds = NDArray[np.int32]
Rows = NDArray[np.float32]


class ModelDiedError(Exception):
    """The model's process ended. `started` says whether it was computing this window."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


@dataclass(frozen=True)
class Prediction:
    """Features of one window, (n, hidden) float32, and how long the model took for them."""

    features: Rows
    seconds: float


class Model(Protocol):
    """What the scheduler needs of a model."""

    async def predict(self, window: WindowIds) -> Prediction:
        """Features of (n,) ids with both specials.

        Raises:
            ModelDiedError: the process ended before it answered.
            ProblemError: the model failed on this window; it is well otherwise.
        """
        ...
