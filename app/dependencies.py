"""What a request finds at hand: the services of its server, and what it hears without a model."""

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, Request

from app.errors import ProblemError
from app.inference.cache import WindowCache
from app.metrics import Metrics
from app.model.lifecycle import Lifecycle, OpenedModel, ServedModel
from app.model.state import ModelUnavailableError
from app.settings import Settings

# When a server that loads, converts or restarts is worth another try.
_SOON_SECONDS = 5
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


async def get_ready_model(services: "ServicesDep") -> ServedModel:
    """Dependency: the model; raises as `Lifecycle.ready_model`."""
    return services.lifecycle.ready_model()


async def get_opened_model(services: "ServicesDep") -> OpenedModel:
    """Dependency: the model, converted and loaded or not; raises as `Lifecycle.opened_model`."""
    return services.lifecycle.opened_model()


def unavailable_problem(error: ModelUnavailableError) -> ProblemError:
    """What a client hears when there is no model: 503 with Retry-After, whatever the state."""
    state = error.state
    if state.status == "stopping":
        return stopping_problem()
    if state.status == "failed":
        seconds = max(1, round(error.retry_after))
        return ProblemError(
            "model.failed",
            f"{state.message} {state.advice} The next request after {seconds} s "
            "tries again; POST /health/retry does so at once.",
            retry_after=seconds,
            reason=state.code,
        )
    message = f"{state.message.rstrip('.')}."
    return ProblemError("model.not_ready", message, retry_after=_SOON_SECONDS)


def stopping_problem() -> ProblemError:
    """What new requests hear while accepted ones are finished."""
    return ProblemError("server.stopping", retry_after=_SOON_SECONDS)


ServicesDep = Annotated[Services, Depends(get_services)]
ReadyModelDep = Annotated[ServedModel, Depends(get_ready_model)]
OpenedModelDep = Annotated[OpenedModel, Depends(get_opened_model)]
