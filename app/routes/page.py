"""The page for people who would rather look than read: static files, nothing computed here."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from app.errors import ProblemError, http_code

_FILES = StaticFiles(directory=Path(__file__).resolve().parent.parent / "static")
# Revalidated at every visit: a new version of the service brings its own page, not half of it.
_CACHE = "no-cache"

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself."""
    return await _file("index.html", request)


@router.api_route("/example.fa", methods=["GET", "HEAD"])
async def example(request: Request) -> Response:
    """A gene to try the service with, as FASTA."""
    return await _file("example.fa", request)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static_file(name: str, request: Request) -> Response:
    """A style sheet, script or picture of the page; 404 for anything else."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers["Cache-Control"] = _CACHE
    return _Told(response)


class _Told(Response):
    """An answer of the library; a Range that it refuses is a problem like any other."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told_send(message: Message) -> None:
            status = message.get("status", 200)
            if status >= 400:
                size = Headers(raw=message["headers"]).get("Content-Range")
                raise ProblemError(
                    http_code(status),
                    "The Range header names no part of this file. Without it the whole is sent.",
                    headers={"Content-Range": size} if size is not None else None,
                )
            await send(message)

        await self._response(scope, receive, told_send)
