"""Tokens are counted while the model is converted: by the checkpoint's own tokenizer, or not."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from app.model.lifecycle import Lifecycle
from app.model.state import ModelUnavailableError
from converter.bundle.destination import usable_destination
from converter.bundle.location import default_bundle_folder
from converter.bundle.store import build_lock
from tests.support.browser import SERVER
from tests.support.hub import COMMIT, Hub, serving
from tests.support.lifecycles import living, reach
from tests.support.running import NOTE_IMPORTS, Server, running
from tests.support.scenarios import scenario, until
from tests.support.stand_in_bundle import describe
from tools.seeded_checkpoints import make_checkpoint

DNA = {"one": "ACGTTGCAAGGCTATTC" * 40, "two": "GATTACA" * 99 + "NNN", "three": "A"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("counts") / "lab-model", num_hidden_layers=1)


@pytest.fixture(scope="module")
def library(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(checkpoint / "tokenizer.json"))


def ask(server: Server, path: str = "/tokenize") -> httpx.Response:
    records = [{"id": name, "sequence": sequence} for name, sequence in DNA.items()]
    return server.http.post(path, json={"sequences": records})


def assert_counts(answer: httpx.Response, library: Tokenizer, model: str) -> None:
    """They are those of the published library, and claim no model."""
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert [record["input_ids"] for record in told["records"]] == [
        [1, *library.encode(sequence, add_special_tokens=False).ids, 2] for sequence in DNA.values()
    ]
    assert {record["limit"] for record in told["records"]} == {512}
    assert told["model"] == answer.headers["X-Gena-Model"] == model
    assert "fingerprint" not in told
    assert "X-Gena-Fingerprint" not in answer.headers


def test_of_a_folder_also_while_another_process_builds_its_bundle(
    checkpoint: Path, library: Tokenizer, tmp_path: Path
) -> None:
    folder = default_bundle_folder(str(checkpoint), None, tmp_path)
    settings = {"GENA_MODEL": str(checkpoint), "GENA_BUNDLES": str(tmp_path)}
    with (
        build_lock(usable_destination(folder)),
        running(SERVER, **settings, **NOTE_IMPORTS) as server,
    ):
        health = server.wait_for("converting", tokenizes=True)
        assert "fingerprint" not in health
        info = server.http.get("/info").json()
        assert (info["limits"]["tokens_per_window"], info["letters"]) == (512, "ACGTN")
        assert (info["bundle"], info["fingerprint"]) == (None, None)
        assert_counts(ask(server), library, checkpoint.name)
        until(lambda: "waiting for it" in server.health()["message"], "it waits")
        assert_counts(ask(server), library, checkpoint.name)
        refused = ask(server, "/embeddings")
        assert (refused.status_code, refused.json()["code"]) == (503, "model.not_ready")
        assert not {"torch", "coremltools", "huggingface_hub"} & server.imported()


def test_of_a_hub_id_while_its_weights_arrive_and_not_once_they_are_refused(
    checkpoint: Path, library: Tokenizer, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    hub = Hub(files, altered={"pytorch_model.bin": bytes(len(files["pytorch_model.bin"]))})
    hub.gate.clear()
    settings = {"GENA_MODEL": "lab/model", "GENA_BUNDLES": str(tmp_path / "bundles")}
    with serving(hub):
        own = {**hub.environment, "HF_HOME": str(tmp_path / "hub")}
        with running(SERVER, **settings, **own) as server:
            server.wait_for("converting", tokenizes=True)
            assert_counts(ask(server), library, "lab/model")
            assert not list(tmp_path.rglob(f"{COMMIT}/pytorch_model.bin"))
            hub.gate.set()
            health = server.wait_for("failed", tokenizes=False)
            assert health["error"]["code"] == "checkpoint.invalid"
            refused = ask(server)
            assert (refused.status_code, refused.json()["code"]) == (503, "model.failed")


@pytest.fixture
def described(tmp_path: Path) -> Path:
    return describe(tmp_path / "described")


async def once(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def count(lifecycle: Lifecycle) -> int:
    return len(lifecycle.opened_model().tokenizer.encode(DNA["two"]).ids)


def counted(tokenizer_file: Path) -> int:
    library = Tokenizer.from_file(str(tokenizer_file))
    return len(library.encode(DNA["two"], add_special_tokens=False).ids)


@scenario
async def test_the_bundles_own_tokenizer_takes_over(described: Path, tmp_path: Path) -> None:
    (tmp_path / "convert_orders").write_text("hold\n")
    async with living(tmp_path, str(described)) as lifecycle:
        await once(lambda: lifecycle.tokenizes)
        model, expected = lifecycle.opened_model(), counted(described / "tokenizer.json")
        assert (model.name, model.fingerprint, count(lifecycle)) == ("described", None, expected)
        # It was read once: a file that changes meanwhile changes no answer.
        (described / "tokenizer.json").write_text("{}")
        assert count(lifecycle) == expected

        (tmp_path / "go").touch()
        while lifecycle.state.status != "ready":
            assert lifecycle.tokenizes
            await asyncio.sleep(0.001)
        assert lifecycle.opened_model().fingerprint == lifecycle.fingerprint
        assert count(lifecycle) == len(DNA["two"]) != expected  # the stand-in's knows letters only
        lifecycle.begin_stop()
        assert not lifecycle.tokenizes


@scenario
async def test_that_of_a_refused_checkpoint_does_not_go_on(described: Path, tmp_path: Path) -> None:
    (tmp_path / "convert_orders").write_text("hold, fail\nhold, die\nhold\n")
    async with living(tmp_path, str(described)) as lifecycle:
        for code in ("checkpoint.unavailable", "conversion.died"):
            await once(lambda: lifecycle.tokenizes)
            (tmp_path / "go").touch()
            await reach(lifecycle, "failed")
            assert lifecycle.state.code == code
            assert not lifecycle.tokenizes
            with pytest.raises(ModelUnavailableError):
                lifecycle.opened_model()
            (tmp_path / "go").unlink()
            lifecycle.retry()
        await once(lambda: lifecycle.tokenizes)
        assert count(lifecycle) == counted(described / "tokenizer.json")


@scenario
async def test_one_that_cannot_be_read_any_more_is_waited_for(
    described: Path, tmp_path: Path
) -> None:
    (described / "tokenizer.json").write_text("{}")
    (tmp_path / "convert_orders").write_text("hold\n")
    async with living(tmp_path, str(described)) as lifecycle:
        await once(lambda: lifecycle.state.stage == "convert")
        with pytest.raises(ModelUnavailableError):
            lifecycle.opened_model()
        (tmp_path / "go").touch()
        await once(lambda: lifecycle.tokenizes)
        assert lifecycle.opened_model().fingerprint is not None
