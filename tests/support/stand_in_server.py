"""`gena serve` with stand-ins for the converter and the model, and one route that predicts.

python -m tests.support.stand_in_server: settings come from GENA_*; the port is said in the log.
"""

import asyncio
import sys
from typing import Annotated

import numpy as np
from fastapi import Query, Request

from app.dependencies import ReadyModelDep
from app.host.listening import bind
from app.host.logs import configure_logging
from app.host.server import serve
from app.main import create_app
from app.metrics import Metrics
from app.model.lifecycle import Lifecycle
from app.settings import Settings


def stand_in(name: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"tests.support.{name}"]


def main() -> None:
    settings = Settings()
    listener = bind(settings.host, settings.port)
    configure_logging(settings)
    lifecycle = Lifecycle(
        settings,
        Metrics(),
        convert_command=stand_in("stand_in_converter"),
        model_command=stand_in("stand_in_model"),
    )
    app = create_app(settings, lifecycle)

    @app.post("/predict")
    async def predict(
        request: Request,
        model: ReadyModelDep,
        ids: Annotated[str, Query()],
        repeat: int = 1,
    ) -> dict[str, object]:
        """First column of each row; the ids are given with commas between them."""
        await request.body()
        window = np.array([int(each) for each in ids.split(",")], dtype=np.int32)
        async with model.scheduler.open_flow() as flow:
            for _ in range(repeat):
                rows = await flow.predict(window)
        return {
            "rows": rows[:, 0].tolist(),
            "queued": flow.queued_seconds,
            "predicting": flow.predicting_seconds,
        }

    @app.post("/swallow")
    async def swallow(request: Request) -> dict[str, int]:
        """Length of the body."""
        return {"bytes": sum([len(block) async for block in request.stream()])}

    @app.post("/sleep")
    async def sleep(request: Request, seconds: float) -> dict[str, bool]:
        """Waits, after the body."""
        await request.body()
        await asyncio.sleep(seconds)
        return {"slept": True}

    @app.get("/fault")
    async def fault() -> None:
        """An unexpected exception that quotes DNA."""
        raise RuntimeError("ACGTTGCA" * 20)

    serve(app, settings, listener)


if __name__ == "__main__":
    main()
