"""The page for people who would rather look than read: static files, nothing computed here."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

_FILES = StaticFiles(directory=Path(__file__).resolve().parent.parent / "static")
# Revalidated at every visit: a new version of the service brings its own page, not half of it.
_CACHE = "no-cache"

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself."""
    return await _file("index.html", request)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static_file(name: str, request: Request) -> Response:
    """A style sheet, script or picture of the page; 404 for anything else."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers["Cache-Control"] = _CACHE
    return response
