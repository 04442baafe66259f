"""The application: routes, middleware and the model's lifecycle put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.dependencies import Services, services_of
from app.headers import HEADERS, OF_REQUESTS
from app.host.body_limit import LimitBody
from app.host.cancellation import CancelWhenGone
from app.host.gate import Gate, accepted_hosts
from app.host.grace import EndWithGrace, Unanswered, unanswered_of
from app.host.observe import Observe
from app.host.problem_answers import install_error_handlers
from app.host.unread import ReadTheRest
from app.inference.cache import WindowCache
from app.metrics import Metrics
from app.model.lifecycle import Lifecycle
from app.routes import data_routers, documentation, operations, page
from app.settings import Settings
from converter.versions import own_version

_DESCRIPTION = (
    "DNA in, features of GENA-LM out: the last hidden states of every token, or one vector a "
    "record. Every answer carries the fingerprint of the weights, tokenizer and package that "
    "made it."
)


def create_app(settings: Settings, lifecycle: Lifecycle | None = None) -> FastAPI:
    """The service for these settings.

    Args:
        lifecycle: the model's; one for these settings where it is not given.
    """
    if lifecycle is None:
        lifecycle = Lifecycle(settings, Metrics())
    cache = WindowCache(settings.cache_bytes)
    services = Services(settings, lifecycle.metrics, lifecycle, cache)
    app = FastAPI(
        title="gena-coreml",
        version=own_version(),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        # To a post, curl would show nothing and write an empty file.
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.unanswered = Unanswered()
    install_error_handlers(app)
    for router in (*data_routers, operations.router, documentation.router, page.router):
        app.include_router(router)
    _surround(app, services)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    lifecycle = services_of(app).lifecycle
    # The socket opens when this yields: everything slow goes on behind it.
    lifecycle.start()
    try:
        yield
    finally:
        await lifecycle.stop()


def _surround(app: FastAPI, services: Services) -> None:
    """Add what every request passes; the last one added is the first to see it."""
    settings, lifecycle = services.settings, services.lifecycle
    app.add_middleware(CancelWhenGone)
    app.add_middleware(ReadTheRest)
    app.add_middleware(
        LimitBody, max_bytes=settings.max_body_bytes, stall_seconds=settings.stall_seconds
    )
    app.add_middleware(
        Gate,
        max_header_bytes=settings.max_header_bytes,
        hosts=accepted_hosts(settings.host, settings.allowed_hosts),
        origins=settings.cors_origins,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        is_stopping=lambda: lifecycle.state.status == "stopping",
    )
    app.add_middleware(EndWithGrace, unanswered=unanswered_of(app))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=OF_REQUESTS,
            expose_headers=list(HEADERS),
        )
    app.add_middleware(Observe, metrics=services.metrics)
