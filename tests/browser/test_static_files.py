"""How the page's files are served, and what they may hold. No browser needed."""

import re
from pathlib import Path
from typing import get_args

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.host.problem_answers import install_error_handlers
from app.requests.options import VectorPooling
from app.routes import page

STATIC = Path(page.__file__).resolve().parent.parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
LICENCES = {name for name in FILES if name.endswith(".LICENSE.txt")}


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(page.router)
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/static/page.css", "text/css"),
        ("/static/main.js", "text/javascript"),
        ("/static/favicon.svg", "image/svg+xml"),
    ],
)
def test_files_are_served_and_revalidated(client: TestClient, path: str, media_type: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(path).headers["content-length"] == str(len(answer.content))


def test_a_range_is_served(client: TestClient) -> None:
    whole = client.get("/static/main.js").content
    part = client.get("/static/main.js", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("bytes=9999999-", 416),
        ("bytes=5-2", 400),
        ("bytes=ACGT", 400),
        ("bases=1-2", 400),
        ("ACGT", 400),
        ("bytes=" + "9" * 10_000, 400),
    ],
)
def test_a_bad_range_is_a_problem_document(client: TestClient, given: str, status: int) -> None:
    for method in ("GET", "HEAD"):
        answer = client.request(method, "/static/main.js", headers={"Range": given})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    problem = client.get("/", headers={"Range": given}).json()
    assert problem["code"] == f"http.{status}"
    assert "ACGT" not in problem["detail"]
    if status == 416:
        size = len(client.get("/static/main.js").content)
        assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "path", ["/static/none.js", "/static/..%2froutes%2fpage.py", "/static/%2e%2e%2fmain.py"]
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_others_wrote_comes_with_its_licence() -> None:
    vendored = {name for name in FILES if name.endswith(".min.js")}
    assert {name.replace(".min.js", ".LICENSE.txt") for name in vendored} == LICENCES
    assert all("Copyright" in (STATIC / name).read_text() for name in LICENCES)


@pytest.mark.parametrize("name", sorted(set(FILES) - LICENCES))
def test_no_file_names_another_host(name: str) -> None:
    text = (STATIC / name).read_text()
    assert set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", text)) <= {"http://www.w3.org"}


def test_the_page_has_nothing_inline() -> None:
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", html)


def test_every_file_that_is_asked_for_is_there() -> None:
    texts = {name: (STATIC / name).read_text() for name in FILES}
    used: set[str] = set()
    for text in texts.values():
        used |= set(re.findall(r"""(?:/static/|\./)([\w.-]+\.\w+)""", text))
    assert "worker.js" in used
    assert used <= set(FILES)


def test_the_page_offers_every_pooling() -> None:
    menu = (STATIC / "index.html").read_text().partition('<select id="pooling">')[2]
    offered = re.findall(r'<option value="(\w+)"', menu.partition("</select>")[0])

    assert set(offered) == set(get_args(VectorPooling))
