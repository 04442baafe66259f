"""One reference network, and one server in front of it, for the tests of the data routes."""

from collections.abc import Iterator

import pytest

from app.dependencies import services_of
from app.inference.cache import WindowCache
from tests.support.live_service import Service, Truth, running


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth.make(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="session")
def shared_service(truth: Truth) -> Iterator[Service]:
    with running(truth) as service:
        yield service


@pytest.fixture
def service(shared_service: Service) -> Iterator[Service]:
    """A server whose model is well, and whose record of what it saw is empty."""
    shared_service.model.seen.clear()
    yield shared_service
    shared_service.model.gate.set()
    shared_service.model.fail_after = None
    shared_service.model.scale = 1.0


@pytest.fixture
def uncached(service: Service) -> Iterator[Service]:
    """The same server, computing everything."""
    services = services_of(service.app)
    cache, services.cache = services.cache, WindowCache(0)
    yield service
    services.cache = cache
