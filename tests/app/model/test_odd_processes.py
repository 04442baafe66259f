"""A model's process that talks nonsense, or dies and leaves something behind."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from app.model.children import module_command
from app.model.prediction import ModelDiedError
from app.model.process import ModelProcess
from app.model.wire import (
    REPLY,
    Failure,
    LoadedRuntime,
    NotLoaded,
    Predicted,
    encode_reply,
)
from app.settings import Settings
from converter.bundle.opening import Bundle, open_bundle
from tests.support import stand_in_model as stand_in
from tests.support.scenarios import is_running, scenario
from tests.support.stand_in_bundle import make_bundle

WINDOW = np.array([1, 9, 2], np.int32)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(make_bundle(tmp_path / "bundle"))


LOADED = encode_reply(LoadedRuntime("scripted", "none", "fp32", (128, 512), 1, None))
FAILED = Failure(0, "model.error", "ValueError")
GARBLED = {
    "of nobody": encode_reply(Predicted(7, (3, stand_in.HIDDEN), 0.1)),
    "error of nobody": encode_reply(Predicted(7, (3, 0), 0.1, [FAILED])),
    "error of a window that it was not sent": encode_reply(
        Predicted(0, (3, stand_in.HIDDEN), 0.1, [Failure(1, "model.error", "ValueError")])
    ),
    "another length": encode_reply(Predicted(0, (512, stand_in.HIDDEN), 0.1)),
    "another width": encode_reply(Predicted(0, (3, 2 * stand_in.HIDDEN), 0.1)),
    "nothing": encode_reply(Predicted(0, (0, 0), 0.1)),
    "loaded again": LOADED,
    "failed after all": encode_reply(NotLoaded("model.load", "late")),
    "endless": REPLY.pack(2**32 - 1),
    "empty": REPLY.pack(0),
    "no JSON": REPLY.pack(4) + b"\xff{[1",
    "no object": REPLY.pack(2) + b"[]",
    "no time": REPLY.pack(40) + b'{"number":0,"shape":[3,64],"seconds":-1}',
    "part of one": REPLY.pack(100) + b"{",
}


@asynccontextmanager
async def scripted(bundle: Bundle, **script: str) -> AsyncIterator[ModelProcess]:
    command = [*module_command("tests.support.scripted_model"), json.dumps(script)]
    process = await ModelProcess.start(bundle, Settings(predict_timeout_seconds=2), command)
    try:
        yield process
    finally:
        await process.stop()
        assert not is_running(process.pid)


@pytest.mark.parametrize("reply", GARBLED.values(), ids=GARBLED.keys())
def test_who_waits_for_a_garbled_reply_hears_of_it(bundle: Bundle, reply: bytes) -> None:
    @scenario
    async def ask() -> None:
        async with scripted(bundle, first=LOADED.hex(), then=reply.hex()) as process:
            await process.ready(60)
            answers = await asyncio.gather(
                *[process.predict([WINDOW]) for _ in range(4)], return_exceptions=True
            )
            died = await process.died()
        assert all(isinstance(each, ModelDiedError) for each in answers)
        assert [each.started for each in answers] == [True, False, False, False]
        assert {str(each) for each in answers} == {died}
        assert "no answer" in died

    ask()


@pytest.mark.parametrize(
    "first", [GARBLED["no JSON"], GARBLED["endless"], GARBLED["of nobody"], LOADED + LOADED]
)
def test_a_process_that_begins_with_nonsense_is_ended(bundle: Bundle, first: bytes) -> None:
    @scenario
    async def begin() -> None:
        async with scripted(bundle, first=first.hex(), then="") as process:
            assert "no answer" in await process.died()

    begin()


@asynccontextmanager
async def dying_with_an_orphan(
    bundle: Bundle, folder: Path
) -> AsyncIterator[tuple[ModelProcess, Path]]:
    """It dies at once; what it started holds its stderr open, and has its id in the file."""
    orphan = folder / "orphan"
    try:
        async with scripted(bundle, orphan=str(orphan)) as process:
            yield process, orphan
    finally:
        os.kill(int(orphan.read_text()), signal.SIGKILL)
        await asyncio.sleep(0.1)  # for the loop to see that the pipe is closed


@scenario
async def test_what_holds_its_output_open_does_not_keep_it_from_being_dead(
    bundle: Bundle, tmp_path: Path
) -> None:
    async with dying_with_an_orphan(bundle, tmp_path) as (process, orphan):
        async with asyncio.timeout(20):
            with pytest.raises(ModelDiedError, match="SIGKILL"):
                await process.ready(60)
        assert is_running(int(orphan.read_text()))


@scenario
async def test_who_asks_while_a_process_is_buried_is_not_what_it_died_of(
    bundle: Bundle, tmp_path: Path
) -> None:
    async with dying_with_an_orphan(bundle, tmp_path) as (process, orphan):
        # The orphan makes the burial take two seconds.
        while not (orphan.exists() and orphan.read_text()) or is_running(process.pid):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # for the loop to hear of it
        with pytest.raises(ModelDiedError) as died:
            await process.predict([WINDOW])
        assert not died.value.started
    assert not process.died_of_a_window
