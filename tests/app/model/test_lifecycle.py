"""When a bundle is built, served, built again, and when a failure is tried again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

import app.model.bundle_source
import app.model.supervisor
from app.metrics import Metrics
from app.model.children import module_command
from app.model.lifecycle import Lifecycle
from app.model.state import ModelUnavailableError, Status
from app.settings import Settings
from converter.bundle.location import default_bundle_folder
from tests.support.scenarios import scenario
from tests.support.stand_in_bundle import make_bundle


@asynccontextmanager
async def living(folder: Path, model: str = "lab/model") -> AsyncIterator[Lifecycle]:
    lifecycle = Lifecycle(
        Settings(model=model, bundles=folder),
        Metrics(),
        convert_command=module_command("tests.support.stand_in_converter"),
        model_command=module_command("tests.support.stand_in_model"),
    )
    lifecycle.start()
    try:
        yield lifecycle
    finally:
        await lifecycle.stop()


async def reach(lifecycle: Lifecycle, status: Status) -> None:
    while lifecycle.state.status != status:
        await asyncio.sleep(0.005)


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
        async with lifecycle.ready_model().scheduler.open_flow(60) as flow:
            rows = await flow.predict(np.array([1, 9, 2], np.int32))
        assert rows[:, 0].tolist() == [1, 9, 2]


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
        process = lifecycle.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await reach(lifecycle, "loading")
        assert "SIGKILL" in lifecycle.state.message
        with pytest.raises(ModelUnavailableError) as refused:
            lifecycle.ready_model()
        assert refused.value.state.status == "loading"
        async with lifecycle.scheduler.open_flow(60) as flow:
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


def test_the_models_room_knows_no_http() -> None:
    code = "import sys, app.model.lifecycle, app.model.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "app.model.scheduler" in loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "torch", "coremltools"}
