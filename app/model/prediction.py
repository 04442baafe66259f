"""What a model is to the queue in front of it: something that predicts, and may die of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import ProblemError
from converter.pooling import Poolings

# Two batches are with the model: it computes one while the answer of the other travels.
IN_FLIGHT = 2

WindowIds = NDArray[np.int32]
Rows = NDArray[np.float32]


class ModelDiedError(Exception):
    """The model's process ended. `started` says whether it was computing these windows."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


@dataclass(frozen=True)
class Prediction:
    """What the model made of some windows, and how long it took for all of them.

    Attributes:
        answers: of each window its features, (n, hidden) float32, or (1, hidden) where they are
            pooled; or why it has none, while the model is well otherwise.
    """

    answers: Sequence[Rows | ProblemError]
    seconds: float


class Model(Protocol):
    """What the scheduler needs of a model.

    Attributes:
        batch_tokens: windows of so many tokens together are predicted at a time, and one at least.
    """

    batch_tokens: int

    async def predict(self, windows: Sequence[WindowIds], poolings: Poolings = None) -> Prediction:
        """Features of windows of (n,) ids with both specials, pooled where that is wanted.

        Raises:
            ModelDiedError: the process ended before it answered.
        """
        ...
