"""The model's process, for real: spawned, hung, killed, orphaned."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import ProblemError
from app.model.children import module_command
from app.model.prediction import ModelDiedError
from app.model.process import ModelLoadError, ModelProcess, ModelStartError
from app.settings import Settings
from converter.bundle.opening import Bundle, open_bundle
from converter.pooling import WindowPooling
from tests.support import stand_in_model as stand_in
from tests.support.scenarios import is_running, scenario, until
from tests.support.stand_in_bundle import make_bundle

COMMAND = module_command("tests.support.stand_in_model")


def ids(*values: int) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


async def features(process: ModelProcess, window: NDArray[np.int32]) -> NDArray[np.float32]:
    (answer,) = (await process.predict([window])).answers
    assert isinstance(answer, np.ndarray)
    return answer


@asynccontextmanager
async def started(bundle: Bundle, **settings: float) -> AsyncIterator[ModelProcess]:
    process = await ModelProcess.start(bundle, Settings(**settings), COMMAND)
    try:
        yield process
    finally:
        await process.stop()
        assert not is_running(process.pid)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(make_bundle(tmp_path / "bundle"))


@scenario
async def test_it_answers_windows_of_every_length(bundle: Bundle) -> None:
    async with started(bundle) as process:
        runtime = await process.ready(60)
        assert runtime.name == "stand-in"
        assert runtime.lengths == [128, 512]
        for n in (2, 127, 128, 129, 512):
            window = np.arange(n, dtype=np.int32) % 200
            prediction = await process.predict([window, window[:2]])
            expected = window[:, None] + np.arange(stand_in.HIDDEN, dtype=np.float32) / 1024
            for answer, rows in zip(prediction.answers, (n, 2), strict=True):
                np.testing.assert_array_equal(answer, expected[:rows])
            assert prediction.seconds > 0


@scenario
async def test_of_a_window_that_is_pooled_one_row_comes_back(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        windows = [ids(1, 10, 20, 2), ids(1, 7, 2), ids(1, stand_in.NOT_FINITE, 2), ids(1, 9, 5, 2)]
        poolings = [WindowPooling("mean", 1, 3), None, None, WindowPooling("max", 0, 3)]
        for wanted in (poolings, [*poolings[:2], WindowPooling("mean", 0, 1), poolings[3]]):
            mean, rows, failed, highest = (await process.predict(windows, wanted)).answers
            assert [each.shape for each in (mean, rows, highest)] == [(1, 64), (3, 64), (1, 64)]
            assert (mean[0, 0], rows[:, 0].tolist(), highest[0, 0]) == (15, [1, 7, 2], 9)
            assert isinstance(failed, ProblemError)


@scenario
async def test_two_at_a_time_do_not_mix_up_their_answers(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        windows = [ids(1, each, 2) for each in range(5, 105)]
        answers = await asyncio.gather(*[features(process, each) for each in windows])
        assert [answer[1, 0] for answer in answers] == list(range(5, 105))


@scenario
async def test_an_exception_fails_its_window_only_and_repeats_nothing(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        (failed,) = (await process.predict([ids(1, stand_in.RAISES, 2)])).answers
        assert isinstance(failed, ProblemError)
        assert (failed.kind.status, failed.code) == (500, "model.error")
        assert "ACGT" not in failed.detail
        windows = [ids(1, 8, 2), ids(1, stand_in.NOT_FINITE, 5, 2), ids(1, 9, 9, 9, 2)]
        before, not_finite, after = (await process.predict(windows)).answers
        assert isinstance(not_finite, ProblemError)
        assert not_finite.code == "model.not_finite"
        assert (before[:, 0].tolist(), after[:, 0].tolist()) == ([1, 8, 2], [1, 9, 9, 9, 2])
        assert (await features(process, ids(1, 9, 2)))[1, 0] == 9


@scenario
async def test_a_model_that_gives_nothing_but_errors_ends(bundle: Bundle) -> None:
    """What is broken for good in a process, such as a CUDA device's context, ends with it."""
    async with started(bundle) as process:
        await process.ready(60)
        broken = ids(1, stand_in.RAISES, 2)
        for window in (broken, ids(1, 9, 2), broken, broken):
            await process.predict([window])
        (well, _) = (await process.predict([ids(1, 9, 2), broken])).answers
        assert well[1, 0] == 9
        requests = [broken, broken, broken, ids(1, 9, 2)]
        *failed, next_one = await asyncio.gather(
            *(process.predict([window]) for window in requests), return_exceptions=True
        )
        assert [each.answers[0].code for each in failed] == ["model.error"] * 3
        # It was sent already, and is well: another process computes it.
        assert isinstance(next_one, ModelDiedError)
        assert not next_one.started
        assert "nothing but errors" in await asyncio.wait_for(process.died(), 10)
        assert not process.died_of_a_window


@scenario
async def test_a_kill_blames_the_window_that_was_computed(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        guilty, bystander = await asyncio.gather(
            process.predict([ids(1, stand_in.KILLED, 2)]),
            process.predict([ids(1, 9, 2)]),
            return_exceptions=True,
        )
        assert isinstance(guilty, ModelDiedError)
        assert isinstance(bystander, ModelDiedError)
        assert (guilty.started, bystander.started) == (True, False)
        assert "SIGKILL" in await process.died()
        with pytest.raises(ModelDiedError):
            await process.predict([ids(1, 9, 2)])


@pytest.mark.parametrize("stopped", [False, True], ids=["sleeping", "SIGSTOP"])
def test_a_hang_is_ended_after_the_timeout(bundle: Bundle, stopped: bool) -> None:
    @scenario
    async def hang() -> None:
        async with started(bundle, predict_timeout_seconds=0.3) as process:
            await process.ready(60)
            if stopped:
                os.kill(process.pid, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(ModelDiedError, match=r"no answer in 0\.3 s"):
                await process.predict([ids(1, 9 if stopped else stand_in.HANGS, 2)])
            assert time.monotonic() - began < 5

    hang()


@scenario
async def test_slow_windows_one_after_the_other_are_no_hang(bundle: Bundle) -> None:
    timeout = 3 * stand_in.SLOW_SECONDS
    async with started(bundle, predict_timeout_seconds=timeout) as process:
        await process.ready(60)
        slow = [process.predict([ids(1, stand_in.SLOW, 2)]) for _ in range(5)]
        assert len(await asyncio.gather(*slow)) == 5


@pytest.mark.parametrize(
    ("fault", "code"), [("refuse", "checkpoint.invalid"), ("raise", "model.load")]
)
def test_a_model_that_cannot_be_loaded_says_why(bundle: Bundle, fault: str, code: str) -> None:
    bundle.path.with_name("load_faults").write_text(fault)

    @scenario
    async def load() -> None:
        async with started(bundle) as process:
            with pytest.raises(ModelLoadError, match="by the test") as failed:
                await process.ready(60)
            assert failed.value.code == code

    load()


@scenario
async def test_a_death_while_loading_is_told(bundle: Bundle) -> None:
    bundle.path.with_name("load_faults").write_text("die")
    async with started(bundle) as process:
        with pytest.raises(ModelDiedError, match="SIGKILL"):
            await process.ready(60)


@scenario
async def test_loading_takes_as_long_as_its_steps_go_on(bundle: Bundle) -> None:
    bundle.path.with_name("load_faults").write_text("steps")
    told: list[str] = []
    async with started(bundle) as process:
        # Not until the process answers at all: Python has to start first.
        runtime = await process.ready(4 * stand_in.STEP_SECONDS, told.append)
        assert runtime.name == "stand-in"
        assert told == [f"step {number}" for number in range(5)]


@scenario
async def test_loading_has_a_time_limit(bundle: Bundle) -> None:
    async with started(bundle) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(ModelDiedError, match="not loaded after"):
            await process.ready(0.05)


@scenario
async def test_it_ignores_an_interrupt(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        os.kill(process.pid, signal.SIGINT)
        assert (await features(process, ids(1, 9, 2)))[1, 0] == 9


@scenario
async def test_a_process_that_may_not_be_killed_any_more_is_dead(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So macOS answers where all that is left is a child whose end nobody asked for yet."""

    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError

    async with started(bundle) as process:
        await process.ready(60)
        monkeypatch.setattr(os, "killpg", refuse)
        with pytest.raises(ModelDiedError, match="SIGKILL"):
            await process.predict([ids(1, stand_in.KILLED, 2)])


@scenario
async def test_many_that_wait_for_a_dead_model_all_hear_of_it(bundle: Bundle) -> None:
    async with started(bundle) as process:
        await process.ready(60)
        windows = [ids(1, stand_in.KILLED, 2), *[ids(1, 9, 2)] * 20]
        results = await asyncio.gather(
            *[process.predict([each]) for each in windows], return_exceptions=True
        )
        assert [each.started for each in results] == [True, *[False] * 20]


@scenario
async def test_windows_without_room_for_their_features_take_nobodys_place(bundle: Bundle) -> None:
    async with started(bundle, batch_tokens=600) as process:
        await process.ready(60)
        for _ in range(3):
            with pytest.raises(ValueError, match="601 rows are too many"):
                await process.predict([np.zeros(512, np.int32), np.zeros(89, np.int32)])
        assert len(await features(process, ids(1, 2))) == 2


@pytest.mark.parametrize("missing", ["tempfile.TemporaryFile", "asyncio.create_subprocess_exec"])
def test_a_process_that_cannot_be_started_leaves_nothing_open(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    @scenario
    async def start() -> None:
        before = open_descriptors()
        monkeypatch.setattr(missing, refuse)
        with pytest.raises(ModelStartError, match="Too many open files") as failed:
            await ModelProcess.start(bundle, Settings(), COMMAND)
        assert failed.value.code == "model.start"
        assert open_descriptors() == before

    start()


def open_descriptors() -> set[int]:
    found = set()
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            found.add(descriptor)
    return found


@pytest.mark.parametrize("hangs", [False, True], ids=["idle", "computing"])
def test_it_ends_when_the_server_is_killed(bundle: Bundle, hangs: bool) -> None:
    parent = textwrap.dedent(
        f"""
        import asyncio, os, signal
        from pathlib import Path
        import numpy as np
        from app.model.process import ModelProcess
        from app.settings import Settings
        from converter.bundle.opening import open_bundle

        async def main():
            bundle = open_bundle(Path({str(bundle.path)!r}))
            process = await ModelProcess.start(bundle, Settings(), {COMMAND!r})
            await process.ready(60)
            if {hangs}:
                window = np.array([1, {stand_in.HANGS}, 2], dtype=np.int32)
                asyncio.create_task(process.predict([window]))
                await asyncio.sleep(0.05)
            print(process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, timeout=60, check=False
    )
    pid = int(done.stdout)
    until(lambda: not is_running(pid), "the model ended with its server")
