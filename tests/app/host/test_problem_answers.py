"""Errors that no route expects, as answers."""

import errno
import os

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.host.problem_answers import install_error_handlers
from tests.support.running import Server


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (errno.ENOSPC, 507, "disk.full"),
        (errno.EDQUOT, 507, "disk.full"),
        (errno.EFBIG, 507, "disk.full"),
        (errno.EIO, 500, "internal"),
        (errno.ECONNRESET, 500, "internal"),
    ],
)
def test_a_full_disk_is_told_from_other_errors_of_the_system(
    number: int, status: int, code: str
) -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise OSError(number, os.strerror(number), "/a/folder/of/the/server")

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "/a/folder" not in answer.text


@pytest.mark.parametrize("path", ["/health/", "/features/", "/health%2F", "/docs/?ACGTTGCA"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_slash_too_many_is_told(shared: Server, method: str, path: str) -> None:
    # A redirect is nothing that curl shows, or takes for a failure.
    answer = shared.http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "route.not_found")
    assert "location" not in answer.headers
