"""A service without HTTP, in front of stand-ins for the converter and the model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.metrics import Metrics
from app.model.children import module_command
from app.model.lifecycle import Lifecycle
from app.model.state import Status
from app.settings import Settings


@asynccontextmanager
async def living(
    folder: Path, model: str = "lab/model", **settings: Any
) -> AsyncIterator[Lifecycle]:
    """Begins with the block, with its bundles in a folder, and ends with it."""
    lifecycle = Lifecycle(
        Settings(model=model, bundles=folder, **settings),
        Metrics(),
        convert_command=module_command("tests.support.stand_in_converter"),
        model_command=module_command("tests.support.stand_in_model"),
    )
    lifecycle.start()
    try:
        yield lifecycle
    finally:
        await lifecycle.stop()


async def reach(lifecycle: Lifecycle, status: Status) -> None:
    """Wait until it is so."""
    while lifecycle.state.status != status:
        await asyncio.sleep(0.005)
