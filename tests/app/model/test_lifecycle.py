"""When a bundle is built, served, built again, and when a failure is tried again."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import app.model.bundle_source
import app.model.supervisor
from app.errors import ProblemError
from app.model.lifecycle import Lifecycle
from app.model.state import ModelUnavailableError
from converter.bundle.location import default_bundle_folder
from converter.bundle.opening import open_bundle
from tests.support.bundles import put_in_place
from tests.support.lifecycles import living, reach
from tests.support.scenarios import scenario
from tests.support.stand_in_bundle import make_bundle
from tests.support.stand_in_model import KILLED, exchange


def conversions(lifecycle: Lifecycle) -> float:
    registry = lifecycle.metrics.registry
    values = [
        registry.get_sample_value("gena_conversions_total", {"result": result})
        for result in ("done", "failed")
    ]
    return sum(value or 0.0 for value in values)


def make_checkpoint_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@scenario
async def test_a_bundle_of_a_hub_id_is_served_without_looking_further(tmp_path: Path) -> None:
    make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 0
        async with lifecycle.ready_model().open_flow(60) as flow:
            rows = await flow.predict(np.array([1, 9, 2], np.int32))
        assert rows[:, 0].tolist() == [1, 9, 2]


@scenario
async def test_what_a_killed_rebuild_left_is_swept(tmp_path: Path) -> None:
    folder = make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    for name in ("building-1a2b", "retired-7"):
        shutil.copytree(folder, tmp_path / f".{folder.name}.{name}")
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 0
    assert {p.name for p in tmp_path.iterdir()} == {folder.name, f".{folder.name}.lock"}


@scenario
async def test_a_bundle_that_a_killed_rebuild_moved_aside_is_served(tmp_path: Path) -> None:
    folder = make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    folder.rename(tmp_path / f".{folder.name}.retired-7")
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 0
    assert folder.is_dir()


@scenario
async def test_the_bundle_of_a_changed_folder_is_built_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint_folder(tmp_path / "checkpoint")
    # A stand-in bundle never has the hashes of this folder.
    make_bundle(default_bundle_folder(str(checkpoint), None, tmp_path))
    async with living(tmp_path, str(checkpoint)) as lifecycle:
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 1


@scenario
async def test_a_request_tries_again_once_the_pause_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "convert_orders").write_text("fail\nfail\nfail\n")
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "failed")
        first = lifecycle.retry_after
        with pytest.raises(ModelUnavailableError) as refused:
            lifecycle.ready_model()
        assert refused.value.state.status == "failed"
        assert 29 < refused.value.retry_after <= 30
        assert conversions(lifecycle) == 1

        monkeypatch.setattr(lifecycle, "_retry_at", time.monotonic())
        with pytest.raises(ModelUnavailableError) as trying:
            lifecycle.ready_model()
        assert trying.value.state.status == "loading"
        await reach(lifecycle, "failed")
        assert conversions(lifecycle) == 2
        assert lifecycle.retry_after > 1.5 * first

        assert lifecycle.retry()
        assert not lifecycle.retry()
        await reach(lifecycle, "failed")
        assert lifecycle.retry()
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 4


@scenario
async def test_a_waiting_window_outlives_the_model(tmp_path: Path) -> None:
    make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        process, served = lifecycle.process, lifecycle.ready_model()
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await reach(lifecycle, "loading")
        assert "SIGKILL" in lifecycle.state.message
        with pytest.raises(ModelUnavailableError) as refused:
            lifecycle.ready_model()
        assert refused.value.state.status == "loading"
        async with served.open_flow(60) as flow:
            assert len(await flow.predict(np.array([1, 2], np.int32))) == 2
        assert lifecycle.restarts == 1


@scenario
async def test_restarts_back_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.model.supervisor, "_FIRST_BACK_OFF", 0.2)
    make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    async with living(tmp_path) as lifecycle:
        for wait in (0.0, 0.2, 0.4):
            await reach(lifecycle, "ready")
            assert lifecycle.process is not None
            os.kill(lifecycle.process.pid, signal.SIGKILL)
            await reach(lifecycle, "loading")
            began = time.monotonic()
            await reach(lifecycle, "ready")
            assert time.monotonic() - began >= wait
        assert lifecycle.restarts == 3


async def ask(lifecycle: Lifecycle, *ids: int) -> str:
    """`answered`, or the code of the problem, once the service is ready or has failed."""
    while lifecycle.state.status == "loading":
        await asyncio.sleep(0.005)
    try:
        async with lifecycle.ready_model().open_flow(60) as flow:
            await flow.predict(np.array(ids, np.int32))
    except ProblemError as error:
        return error.code
    return "answered"


@scenario
async def test_a_model_that_dies_of_every_window_is_a_failure_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.model.supervisor, "_FIRST_BACK_OFF", 0.01)
    make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    async with living(tmp_path) as lifecycle:
        for _ in range(5):
            assert await ask(lifecycle, 1, KILLED, 2) == "model.crashed"
        await reach(lifecycle, "failed")
        assert lifecycle.state.code == "model.crashing"
        assert "started 5 times and never gave an answer" in lifecycle.state.message
        with pytest.raises(ModelUnavailableError):
            await ask(lifecycle, 1, 9, 2)
        lifecycle.retry()
        assert await ask(lifecycle, 1, 9, 2) == "answered"


@scenario
async def test_a_model_that_answers_between_its_deaths_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.model.supervisor, "_FIRST_BACK_OFF", 0.0001)
    make_bundle(default_bundle_folder("lab/model", None, tmp_path))
    async with living(tmp_path) as lifecycle:
        for _ in range(3):
            for _ in range(2):
                assert await ask(lifecycle, 1, KILLED, 2) == "model.crashed"
            assert await ask(lifecycle, 1, 9, 2) == "answered"
        # With nothing to do it dies of something else.
        for _ in range(5):
            await kill_the_model(lifecycle)
            await reach(lifecycle, "ready")
        assert lifecycle.restarts == 11


@scenario
async def test_a_fault_of_the_programs_own_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_folder: Path) -> None:
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr(app.model.bundle_source, "open_bundle", broken)
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "failed")
        assert lifecycle.state.code == "internal"
        assert "ZeroDivisionError" in lifecycle.state.message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle at the place of lab/model's, and beside it another one, `other`."""
    make_bundle(tmp_path / "other", weights="new")
    return make_bundle(default_bundle_folder("lab/model", None, tmp_path))


def fingerprint_at(folder: Path) -> str:
    return open_bundle(folder).manifest.fingerprint


async def kill_the_model(lifecycle: Lifecycle) -> None:
    assert lifecycle.process is not None
    os.kill(lifecycle.process.pid, signal.SIGKILL)
    await reach(lifecycle, "loading")


@scenario
async def test_a_bundle_that_was_replaced_is_served_as_a_whole(
    folder: Path, tmp_path: Path
) -> None:
    old, new = fingerprint_at(folder), fingerprint_at(tmp_path / "other")
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        before = lifecycle.ready_model()
        assert before.manifest.fingerprint == old
        exchange(folder)
        async with before.open_flow(60) as flow:
            assert len(await flow.predict(np.array([1, 2], np.int32))) == 2
            await kill_the_model(lifecycle)
            # It may have been prepared with a tokenizer that the new model does not know.
            with pytest.raises(ProblemError) as replaced:
                await flow.predict(np.array([1, 2], np.int32))
        assert replaced.value.code == "model.replaced"
        await reach(lifecycle, "ready")
        after = lifecycle.ready_model()
        assert after.manifest.fingerprint == new
        assert lifecycle.manifest is after.manifest
        with pytest.raises(ProblemError):
            async with before.open_flow(60):
                pass
        async with after.open_flow(60) as flow:
            assert len(await flow.predict(np.array([1, 2], np.int32))) == 2
        assert (conversions(lifecycle), lifecycle.restarts) == (0, 1)


@scenario
async def test_the_same_bundle_built_again_loses_nobody(folder: Path, tmp_path: Path) -> None:
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        put_in_place(make_bundle(tmp_path / "again"), folder)
        async with lifecycle.ready_model().open_flow(60) as flow:
            await kill_the_model(lifecycle)
            assert len(await flow.predict(np.array([1, 2], np.int32))) == 2


@pytest.mark.parametrize("order", ["exchange", "exchange, raise", "exchange twice"])
def test_a_bundle_that_is_replaced_while_it_is_loaded_is_read_again(
    folder: Path, tmp_path: Path, order: str
) -> None:
    (tmp_path / "load_faults").write_text(f"{order}\n" * 3)

    @scenario
    async def load() -> None:
        async with living(tmp_path) as lifecycle:
            await reach(lifecycle, "ready")
            assert lifecycle.ready_model().manifest.fingerprint == fingerprint_at(folder)
            assert (tmp_path / "load_faults").read_text() == ""
            assert (conversions(lifecycle), lifecycle.restarts) == (0, 0)

    load()


@pytest.mark.usefixtures("folder")
@scenario
async def test_a_bundle_that_is_replaced_for_ever_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "load_faults").write_text("exchange\n" * 20)
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "failed")
        assert lifecycle.state.code == "bundle.replaced"
        assert "was replaced while it was read" in lifecycle.state.message
        assert (tmp_path / "load_faults").read_text() == "exchange\n" * 14


@scenario
async def test_a_bundle_that_was_replaced_after_a_failure_is_served_as_a_whole(
    folder: Path, tmp_path: Path
) -> None:
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        before = lifecycle.ready_model()
        (tmp_path / "load_faults").write_text("refuse\n")
        await kill_the_model(lifecycle)
        await reach(lifecycle, "failed")
        with pytest.raises(ModelUnavailableError):
            async with before.open_flow(60):
                pass
        exchange(folder)
        lifecycle.retry()
        await reach(lifecycle, "ready")
        assert lifecycle.ready_model().manifest.fingerprint == fingerprint_at(folder)
        with pytest.raises(ProblemError, match="send the request again"):
            async with before.open_flow(60):
                pass


@scenario
async def test_a_bundle_that_is_damaged_while_it_is_served_is_built_again(
    folder: Path, tmp_path: Path
) -> None:
    async with living(tmp_path) as lifecycle:
        await reach(lifecycle, "ready")
        (folder / "model.mlpackage" / "Manifest.json").write_text("changed")
        await kill_the_model(lifecycle)
        await reach(lifecycle, "ready")
        assert conversions(lifecycle) == 1


def test_the_models_room_knows_no_http() -> None:
    code = "import sys, app.model.lifecycle, app.model.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "app.model.scheduler" in loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "torch", "coremltools"}


def test_a_bundle_for_a_newer_macos_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @scenario
    async def start(built: int) -> None:
        async with living(tmp_path) as lifecycle:
            await reach(lifecycle, "ready")
            assert conversions(lifecycle) == built

    start(1)
    monkeypatch.setattr(app.model.bundle_source, "macos_here", lambda: 15)
    start(0)
    monkeypatch.setattr(app.model.bundle_source, "macos_here", lambda: 14)
    start(1)
    monkeypatch.setenv("GENA_RUNTIME", "mil")
    start(0)
