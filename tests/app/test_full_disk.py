"""A temporary folder that is full: said in one sentence, and over when there is room again."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.running import Server, running
from tests.support.scenarios import until
from tests.support.small_disk import fill_up, small_disk
from tests.support.stand_in_bundle import make_bundle

# Of the stand-in model: two batches of 2,048 rows of 64 float32.
SHARED_BYTES = 2 * 2048 * 64 * 4
RECORDS = b"".join(b">%d\n%s\n" % (number, b"ACGTN" * 200) for number in range(1100))
# What begins where is kept, in memory up to here.
IN_MEMORY = RECORDS[: 2**20 - 1]
SAID = "disk.full: No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 32 * 2**20) as disk:
        yield disk


@pytest.fixture
def settings(disk: Path, tmp_path: Path) -> dict[str, str]:
    return {"TMPDIR": str(disk), "GENA_BUNDLE": str(make_bundle(tmp_path / "bundle"))}


def test_a_model_without_room_for_its_answers_is_a_failure_that_says_so(
    disk: Path, settings: dict[str, str]
) -> None:
    filler = fill_up(disk, but=SHARED_BYTES // 2)
    with running(**settings) as server:
        health = server.wait_for("failed")
        assert health["error"]["code"] == "disk.full"
        assert str(disk) in health["message"]
        assert "1.00 MiB" in health["message"]
        assert "TMPDIR" in health["error"]["advice"]
        refused = server.predict(1, 9, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "model.failed")
        assert refused.json()["reason"] == "disk.full"
        filler.unlink()
        server.http.post("/health/retry")
        server.wait_for("ready")
        assert server.predict(1, 9, 2).json()["rows"] == [1, 9, 2]
        assert server.stop() == 0
    assert "Traceback" not in server.text


def test_a_disk_that_is_full_later_does_not_touch_what_is_reserved(
    disk: Path, settings: dict[str, str]
) -> None:
    with running(**settings) as server:
        server.wait_for("ready")
        fill_up(disk, but=0)
        ids = [each % 200 for each in range(512)]
        assert server.predict(*ids).json()["rows"] == ids


def free_bytes(disk: Path) -> int:
    """Files without a name hold their room until they are closed."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A disk, and a server that outlasts its being full."""
    folder = tmp_path_factory.mktemp("crowded")
    bundle = make_bundle(folder / "bundle")
    with (
        small_disk(folder / "disk", 32 * 2**20) as disk,
        running(TMPDIR=str(disk), GENA_BUNDLE=str(bundle)) as server,
    ):
        server.wait_for("ready")
        yield disk, server
        assert server.stop() == 0
        assert "Traceback" not in server.text


@pytest.mark.parametrize("kind", ["body", "form", "tokens"])
def test_a_request_without_room_for_its_body_or_tokens_is_told(
    crowded: tuple[Path, Server], kind: str
) -> None:
    disk, server = crowded
    before, told = free_bytes(disk), server.text.count(SAID)
    filler = fill_up(disk, but=64 * 1024)

    def ask() -> httpx.Response:
        if kind == "form":
            return server.http.post("/tokenize", files={"file": ("genes.fa", RECORDS)})
        body = RECORDS if kind == "body" else IN_MEMORY
        return server.http.post("/tokenize", content=body)

    try:
        refused = ask()
        assert (refused.status_code, refused.json()["code"]) == (507, "disk.full")
        assert refused.headers["content-type"] == "application/problem+json"
        # A small request needs no disk.
        assert server.http.post("/tokenize", json={"sequence": "ACGT"}).status_code == 200
    finally:
        filler.unlink()
    until(
        lambda: not any(disk.iterdir()) and free_bytes(disk) == before,
        "all is given back",
    )
    assert ask().status_code == 200
    assert server.text.count(SAID) == told + 1
