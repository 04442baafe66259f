"""A model for the scheduler that answers when it is told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.model.flow import Flow
from app.model.prediction import Prediction
from converter.pooling import Poolings, of_each, pooled
from tests.support.scenarios import settle

# Fingerprints of two bundles.
A, B = "a" * 16, "b" * 16


@dataclass
class FakeModel:
    """Answers some windows when it is told to, with their ids as rows."""

    batch_tokens: int = 1
    seen: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    waiting: asyncio.Queue[asyncio.Future[None]] = field(default_factory=asyncio.Queue)

    async def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> Prediction:
        self.batches.append([int(window[0]) for window in windows])
        self.seen += self.batches[-1]
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.waiting.put(answer)
        await answer
        wanted = of_each(poolings, [len(window) for window in windows])
        return Prediction(list(map(pooled, map(rows, windows), wanted)), seconds=0.01)

    async def answer(self, count: int = 1) -> None:
        for _ in range(count):
            (await self.waiting.get()).set_result(None)
            await settle()

    async def fail(self, error: Exception) -> None:
        (await self.waiting.get()).set_exception(error)
        await settle()


def rows(window: NDArray[np.int32]) -> NDArray[np.float32]:
    return window[:, None].astype(np.float32)


def window(name: int, length: int = 10) -> NDArray[np.int32]:
    return np.full(length, name, dtype=np.int32)


def ask(flow: Flow, *windows: NDArray[np.int32]) -> list[asyncio.Task[NDArray[np.float32]]]:
    return [asyncio.create_task(flow.predict(each)) for each in windows]
