"""`gena serve` with stand-ins for the converter and the model, and routes that use and provoke it.

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
from app.model.children import module_command
from app.model.lifecycle import Lifecycle
from app.settings import Settings


def main() -> None:
    settings = Settings()
    listeners = bind(settings.host, settings.port)
    configure_logging(settings)
    lifecycle = Lifecycle(
        settings,
        Metrics(),
        convert_command=module_command("tests.support.stand_in_converter"),
        model_command=module_command("tests.support.stand_in_model"),
    )
    app = create_app(settings, lifecycle)

    @app.post("/predict")
    async def predict(
        request: Request,
        model: ReadyModelDep,
        ids: Annotated[str, Query()],
        repeat: int = 1,
    ) -> dict[str, list[float]]:
        """First column of each row; the ids are given with commas between them."""
        await request.body()
        window = np.array([int(each) for each in ids.split(",")], dtype=np.int32)
        async with model.open_flow(settings.deadline_seconds) as flow:
            for _ in range(repeat):
                rows = await flow.predict(window)
        return {"rows": rows[:, 0].tolist()}

    @app.post("/swallow")
    async def swallow(request: Request) -> dict[str, int]:
        """Length of the body."""
        return {"bytes": sum([len(block) async for block in request.stream()])}

    @app.post("/endless")
    async def endless() -> None:
        """Work that does not end by itself."""
        await asyncio.sleep(1000)

    @app.get("/fault")
    async def fault() -> None:
        """An unexpected exception that quotes DNA."""
        raise RuntimeError("ACGTTGCA" * 20)

    failure = serve(app, settings, listeners, for_a_person=sys.stderr.isatty())
    sys.exit(failure.message if failure else 0)


if __name__ == "__main__":
    main()
