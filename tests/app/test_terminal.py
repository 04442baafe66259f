"""`gena serve` where a person looks on: a real terminal's other end is this test."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.paths import ROOT
from tests.support.running import STAND_IN_SERVER, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle
from tools.seeded_checkpoints import make_checkpoint

SERVE = (sys.executable, "-m", "app.cli", "serve", "--port", "0")


class Session:
    """A command in a terminal, and what it showed so far."""

    def __init__(self, *command: str, **environment: str) -> None:
        # The command's end stays open here: what was written last is not lost with it.
        self._terminal, self._theirs = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GENA_", "HF_"))}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean, "OMP_NUM_THREADS": "1", **environment},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
        )
        self.shown = ""

    def read(self) -> str:
        while select.select([self._terminal], [], [], 0.1)[0]:
            self.shown += os.read(self._terminal, 2**16).decode().replace("\r\n", "\n")
        return self.shown

    def code(self, seconds: float = 60) -> int:
        """The exit status, once it ended by itself."""
        until(lambda: (self.read(), self.process.poll())[1] is not None, "it ended", seconds)
        self.read()
        return self.process.returncode

    @property
    def url(self) -> str:
        until(lambda: "listening on http" in self.read(), "the server listens")
        (found,) = re.findall(r"listening on (http://\S+)", self.shown)
        return str(found)

    def health(self) -> dict[str, object]:
        answer: dict[str, object] = httpx.get(f"{self.url}/health").json()
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)
        os.close(self._theirs)


@contextlib.contextmanager
def terminal(*command: str, **environment: str) -> Iterator[Session]:
    session = Session(*command, **environment)
    try:
        yield session
    finally:
        session.close()


def test_a_mistyped_folder_ends_the_server_with_the_sentence(tmp_path: Path) -> None:
    with terminal(*SERVE, "--model", "./chekpoint", GENA_BUNDLES=str(tmp_path)) as session:
        assert session.code() == 1
    last = session.shown.strip().splitlines()[-1]
    assert last.startswith(
        "gena: './chekpoint' is neither a folder here, nor a hub id (owner/name)"
    )
    assert "--model gena-mini" in last
    assert "Traceback" not in session.shown


def test_a_checkpoint_that_is_refused_ends_it_too(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", num_hidden_layers=1)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"bert"', '"big_bird"'))
    with terminal(*SERVE, "--model", str(folder), GENA_BUNDLES=str(tmp_path)) as session:
        assert session.code() == 1
    assert "\ngena: config.json says model_type='big_bird'" in session.shown


@pytest.mark.parametrize("damage", ["absent", "damaged"])
def test_a_bundle_that_cannot_be_served_ends_it_too(tmp_path: Path, damage: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    if damage == "absent":
        bundle = tmp_path / "bundel"
    else:
        (bundle / "tokenizer.json").write_text("{}")
    with terminal(*SERVE, "--bundle", str(bundle)) as session:
        assert session.code() == 1
    last = session.shown.strip().splitlines()[-1]
    assert last.startswith("gena: ")
    assert str(bundle) in last


def test_a_network_that_is_down_may_come_back(tmp_path: Path) -> None:
    (tmp_path / "convert_orders").write_text("fail")
    settings = {"GENA_PORT": "0", "GENA_BUNDLES": str(tmp_path), "GENA_MODEL": "lab/model"}
    with terminal(*STAND_IN_SERVER, **settings) as session:
        until(lambda: session.health()["status"] == "failed", "it failed")
        time.sleep(0.5)
        assert session.process.poll() is None
        assert httpx.post(f"{session.url}/health/retry").status_code == 202
        until(lambda: session.health()["status"] == "ready", "the network is back")


def test_without_a_terminal_it_stays_and_says_so(tmp_path: Path) -> None:
    with running(SERVE, GENA_MODEL="./chekpoint", GENA_BUNDLES=str(tmp_path)) as server:
        health = server.wait_for("failed")
        assert "'./chekpoint' is neither a folder here" in health["message"]
        time.sleep(0.5)
        assert server.process.poll() is None
        assert server.stop() == 0
