"""Against a server on this machine that answers as the hub does."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import COMMIT, RESOLVE, Hub, serving
from tests.support.paths import ROOT

WEIGHTS = bytes(range(256)) * 4096

CONFIG = b'{"model_type": "bert"}'
TOKENIZER = b'{"version": "1.0"}'


@pytest.fixture
def serve() -> Iterator[Callable[..., Hub]]:
    with ExitStack() as servers:

        def start(*weights: str, **options: Any) -> Hub:
            files = {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "README.md": b"# Model"}
            hub = Hub(files=files | dict.fromkeys(weights, WEIGHTS), **options)
            return servers.enter_context(serving(hub))

        yield start


# The hub's library reads its environment once, when it is imported: a process for each fetch.
FETCH = """
import json, sys, time
time.sleep = lambda seconds: None  # its pauses between attempts
if sys.argv[2:]:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
from converter.errors import GenaError
from converter.checkpoint.hub import fetch_files, fetch_first
revision = sys.argv[1] or None
try:
    folder = fetch_files("lab/model", revision, ("config.json", "tokenizer.json"))
    fetch_first("lab/model", folder.name, ("model.safetensors", "pytorch_model.bin"))
    print(json.dumps({"folder": str(folder), "files": sorted(p.name for p in folder.iterdir())}))
except GenaError as error:
    told = {"code": error.code, "message": str(error), "may_pass": error.may_pass}
    print(json.dumps(told))
"""


def fetch(
    cache: Path, url: str, revision: str = "", file_limit: int | None = None, **environment: str
) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, "-c", FETCH, revision, *([str(file_limit)] if file_limit else [])],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_HOME": str(cache),
            "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    result: dict[str, Any] = json.loads(child.stdout)
    return result


def downloads(hub: Hub) -> list[str]:
    """Names of the files that were downloaded; the library asks the hub for other things too."""
    paths = [RESOLVE.fullmatch(path) for method, path, _ in hub.requests if method == "GET"]
    return [path[2] for path in paths if path]


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_only_the_needed_files_are_fetched(
    tmp_path: Path, serve: Callable[..., Hub], weights: str
) -> None:
    hub = serve(weights)
    result = fetch(tmp_path, hub.url)
    assert Path(result["folder"]).name == COMMIT
    assert result["files"] == sorted(["config.json", "tokenizer.json", weights])
    assert (Path(result["folder"]) / weights).read_bytes() == WEIGHTS
    assert sorted(downloads(hub)) == result["files"]


def test_safetensors_are_preferred_and_the_other_file_is_left(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    hub = serve("model.safetensors", "pytorch_model.bin")
    assert "pytorch_model.bin" not in fetch(tmp_path, hub.url)["files"]


def test_a_second_time_and_offline_nothing_is_downloaded(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    hub = serve("pytorch_model.bin")
    first = fetch(tmp_path, hub.url)
    hub.requests.clear()
    assert fetch(tmp_path, hub.url) == first
    assert downloads(hub) == []
    hub.requests.clear()
    assert fetch(tmp_path, hub.url, HF_HUB_OFFLINE="1") == first
    assert fetch(tmp_path, hub.url, COMMIT, HF_HUB_OFFLINE="1") == first
    assert hub.requests == []
    # No network at all, and nobody said "offline".
    assert fetch(tmp_path, "http://127.0.0.1:9") == first


def test_an_interrupted_download_is_resumed(tmp_path: Path, serve: Callable[..., Hub]) -> None:
    # The library writes 10 MiB at a time: what arrived of the second part is asked for again.
    hub = serve("model.safetensors", cut={"model.safetensors": 15 * 2**20})
    content = hub.files["model.safetensors"] = WEIGHTS * 20
    folder = Path(fetch(tmp_path, hub.url)["folder"])
    assert (folder / "model.safetensors").read_bytes() == content
    ranges = [r for method, path, r in hub.requests if method == "GET" and "safetensors" in path]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_a_download_that_is_cut_off_for_good_leaves_nothing_to_use(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    hub = serve("model.safetensors")
    hub.always_cut = {"model.safetensors": 1000}
    result = fetch(tmp_path, hub.url)
    assert result["code"] == "checkpoint.unavailable"
    assert "Try again" in result["message"]
    assert result["may_pass"]
    hub.always_cut = {}
    folder = Path(fetch(tmp_path, hub.url)["folder"])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_differs_from_its_digest_is_deleted_and_never_used(
    tmp_path: Path, serve: Callable[..., Hub], name: str
) -> None:
    hub = serve("model.safetensors")
    truth = hub.files[name]
    hub.altered[name] = truth[:-1] + bytes([truth[-1] ^ 1])
    result = fetch(tmp_path, hub.url)
    assert result["code"] == "checkpoint.invalid"
    assert name in result["message"]
    assert fetch(tmp_path, hub.url, HF_HUB_OFFLINE="1")["code"] == "checkpoint.unavailable"
    hub.altered.clear()
    folder = Path(fetch(tmp_path, hub.url)["folder"])
    assert (folder / name).read_bytes() == truth


def test_a_page_to_log_in_is_no_hub_that_cannot_be_reached(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    hub = serve("model.safetensors", page=b"<!doctype html><title>Log in</title>")
    result = fetch(tmp_path, hub.url)
    assert result["code"] == "checkpoint.unavailable"
    assert f"{hub.url} was reached, but what answered is not the hub" in result["message"]
    assert "cannot be reached" not in result["message"]


def test_a_blocked_back_end_of_large_files_is_one_sentence_soon(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    """With hf_xet itself, whose own pauses between its attempts are waited for."""
    pytest.importorskip("hf_xet")
    with socket.socket() as nobody:  # bound, and not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        back_end = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        hub = serve("model.safetensors", back_end=back_end)
        began = time.monotonic()
        result = fetch(tmp_path, hub.url, HF_HUB_DISABLE_XET="0")
        seconds = time.monotonic() - began
    assert result["code"] == "checkpoint.unavailable"
    for way_around in ("HF_HUB_DISABLE_XET=1", "HF_ENDPOINT", "a folder that holds"):
        assert way_around in result["message"]
    assert seconds < 25
    # What the sentence says helps.
    assert "model.safetensors" in fetch(tmp_path, hub.url, HF_HUB_DISABLE_XET="1")["files"]


def test_a_file_altered_on_disk_later_is_found(tmp_path: Path, serve: Callable[..., Hub]) -> None:
    hub = serve("model.safetensors")
    weights = Path(fetch(tmp_path, hub.url)["folder"]) / "model.safetensors"
    weights.resolve().write_bytes(WEIGHTS[:-1])
    assert fetch(tmp_path, hub.url)["code"] == "checkpoint.invalid"
    fetch(tmp_path, hub.url)
    assert weights.read_bytes() == WEIGHTS


def test_no_network_says_what_to_do_and_no_password(tmp_path: Path) -> None:
    result = fetch(tmp_path, "http://lab:secret@127.0.0.1:9")
    assert result["code"] == "checkpoint.unavailable"
    assert "http://127.0.0.1:9 cannot be reached" in result["message"]
    assert "secret" not in result["message"]
    assert result["may_pass"]
    assert "--model gena-mini" in result["message"]


def test_offline_with_nothing_here_says_so(tmp_path: Path) -> None:
    result = fetch(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert result["code"] == "checkpoint.unavailable"
    assert "HF_HUB_OFFLINE is set" in result["message"]
    assert not result["may_pass"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ((401, "RepoNotFound"), "not found"),
        ((403, "GatedRepo"), "hf auth login"),
        ((401, "GatedRepo"), "hf auth login"),
        ((500, ""), "cannot be reached"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(
    tmp_path: Path, serve: Callable[..., Hub], status: tuple[int, str], words: str
) -> None:
    hub = serve("model.safetensors", status=status)
    result = fetch(tmp_path, hub.url)
    assert result["code"] == "checkpoint.unavailable"
    assert words in result["message"]
    assert "lab/model" in result["message"]
    assert result["may_pass"] == (status[0] == 500)


def test_an_unknown_revision_is_named(tmp_path: Path, serve: Callable[..., Hub]) -> None:
    result = fetch(tmp_path, serve("model.safetensors").url, "v9")
    assert result["code"] == "checkpoint.unavailable"
    assert "'v9'" in result["message"]


def test_a_model_without_weights_is_no_checkpoint(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    result = fetch(tmp_path, serve().url)
    assert result["code"] == "checkpoint.invalid"
    assert "model.safetensors nor pytorch_model.bin" in result["message"]


def test_a_full_disk_is_named_and_nothing_half_written_is_used(
    tmp_path: Path, serve: Callable[..., Hub]
) -> None:
    hub = serve("model.safetensors")
    result = fetch(tmp_path, hub.url, file_limit=200_000)
    assert result["code"] == "checkpoint.unavailable"
    assert "no room" in result["message"]
    assert "HF_HOME" in result["message"]
    assert (Path(fetch(tmp_path, hub.url)["folder"]) / "model.safetensors").read_bytes() == WEIGHTS
