"""What a request finds at hand: the services of its server, typed, and how routes ask for them."""

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, Request

from app.inference.cache import WindowCache
from app.metrics import Metrics
from app.model.lifecycle import Lifecycle, ReadyModel
from app.settings import Settings

# Bodies that are read at the same time, beside small ones, which always find a thread.
_BULK_THREADS = 4


@dataclass
class Services:
    """One server's settings and everything that its requests share."""

    settings: Settings
    metrics: Metrics
    lifecycle: Lifecycle
    cache: WindowCache
    bulk_threads: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(_BULK_THREADS)
    )


def services_of(app: FastAPI) -> Services:
    """What `create_app` gave the application."""
    services: Services = app.state.services
    return services


async def get_services(request: Request) -> Services:  # async: no thread is needed
    """Dependency: the services of the server that answers."""
    return services_of(request.app)


async def get_ready_model(services: "ServicesDep") -> ReadyModel:
    """Dependency: the model; raises as `Lifecycle.ready_model`."""
    return services.lifecycle.ready_model()


ServicesDep = Annotated[Services, Depends(get_services)]
ReadyModelDep = Annotated[ReadyModel, Depends(get_ready_model)]
