"""Servers of stand-ins that the tests of what surrounds a request share."""

from collections.abc import Iterator

import pytest

from tests.support.running import Server, running
from tests.support.stand_in_bundle import make_bundle


@pytest.fixture(scope="package")
def body_limit() -> int:
    """Bytes of a body that `shared` takes."""
    return 100_000


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, body_limit: int) -> Iterator[Server]:
    """Takes bodies of `body_limit` bytes; nothing here breaks it."""
    bundle = make_bundle(tmp_path_factory.mktemp("shared") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_MAX_BODY_BYTES=str(body_limit)) as server:
        server.wait_for("ready")
        yield server


@pytest.fixture(scope="package")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Answers to any name and to web pages from anywhere."""
    bundle = make_bundle(tmp_path_factory.mktemp("everywhere") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_ALLOWED_HOSTS="*", GENA_CORS_ORIGINS="*") as server:
        server.wait_for("ready")
        yield server


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Asks for a key, lets one web site in."""
    bundle = make_bundle(tmp_path_factory.mktemp("guarded") / "bundle")
    with running(
        GENA_BUNDLE=str(bundle),
        GENA_API_KEY="schlüssel",
        GENA_CORS_ORIGINS="https://lab.example, https://other.example",
        GENA_ALLOWED_HOSTS="gena.lab.example,127.0.0.1",
    ) as server:
        server.wait_for("ready")
        yield server
