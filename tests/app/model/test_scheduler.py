"""The queue: bounds, turns, batches, deadlines, leaving."""

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import ProblemError
from app.model.prediction import Prediction
from app.model.scheduler import Scheduler
from converter.pooling import Poolings
from tests.support.fake_model import A, B, FakeModel, ask, rows, window
from tests.support.scenarios import scenario, settle


@scenario
async def test_features_come_back_to_who_asked() -> None:
    scheduler, model = Scheduler(5120), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as flow:
        first, second = ask(flow, window(7, 3), window(8, 5))
        await model.answer(2)
        np.testing.assert_array_equal(await first, np.full((3, 1), 7, np.float32))
        np.testing.assert_array_equal(await second, np.full((5, 1), 8, np.float32))
        assert flow.predicting_seconds == pytest.approx(0.02)


@scenario
async def test_time_in_the_queue_is_less_than_the_time_that_passed() -> None:
    """Windows that wait at the same time wait once."""

    class SlowModel:
        batch_tokens = 1

        def __init__(self) -> None:
            self.free = asyncio.Lock()

        async def predict(
            self, windows: Sequence[NDArray[np.int32]], _poolings: Poolings = None
        ) -> Prediction:
            async with self.free:
                began = time.perf_counter()
                await asyncio.sleep(0.02)
                return Prediction([*map(rows, windows)], time.perf_counter() - began)

    scheduler = Scheduler(5120)
    scheduler.attach(SlowModel(), A)
    began = time.perf_counter()
    async with scheduler.open_flow(A, 512, 60) as one, scheduler.open_flow(A, 512, 60) as other:
        flows = (one, other)
        await asyncio.gather(*[task for flow in flows for task in ask(flow, *[window(1)] * 4)])
        passed = time.perf_counter() - began
        assert sum(flow.queued_seconds for flow in flows) > 3 * 0.02
        for flow in flows:
            assert flow.queued_seconds + flow.predicting_seconds <= passed


@scenario
async def test_a_single_sequence_does_not_wait_for_an_upload() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as upload, scheduler.open_flow(A, 512, 60) as single:
        bulk = ask(upload, *[window(1)] * 50)
        await settle()
        (short,) = ask(single, window(2))
        await settle()
        # Two windows are with the model already, and one flow was in line before.
        await model.answer(4)
        assert short.done()
        assert model.seen[:4] == [1, 1, 1, 2]
        await model.answer(47)
        await asyncio.gather(*bulk)


@scenario
async def test_who_comes_during_a_long_batch_goes_with_the_next() -> None:
    """And the model has that before it is done with the first, so that it never waits."""
    scheduler, model = Scheduler(5120), FakeModel(batch_tokens=1000)
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as upload, scheduler.open_flow(A, 512, 60) as single:
        # A second a batch, by the speed that is guessed first.
        waiting = ask(upload, *[window(1, 500) for _ in range(8)])
        await settle()
        waiting += ask(single, window(2, 50))
        await settle()
        assert model.batches == [[1, 1]]
        async with asyncio.timeout(10):
            while len(model.batches) == 1:
                await asyncio.sleep(0.01)
        assert model.batches == [[1, 1], [1, 2]]
        for task in waiting:
            task.cancel()


@scenario
async def test_two_uploads_take_turns() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    async with scheduler.open_flow(A, 512, 60) as one, scheduler.open_flow(A, 512, 60) as two:
        tasks = ask(one, *[window(1)] * 4) + ask(two, *[window(2)] * 4)
        await settle()
        scheduler.attach(model, A)
        await settle()
        await model.answer(8)
        await asyncio.gather(*tasks)
    assert model.seen == [1, 2, 1, 2, 1, 2, 1, 2]


@scenario
async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    scheduler = Scheduler(1024)
    async with scheduler.open_flow(A, 512, 60), scheduler.open_flow(A, 512, 60):
        with pytest.raises(ProblemError) as refused:
            async with scheduler.open_flow(A, 512, 60):
                pass
    assert (refused.value.kind.status, refused.value.code) == (429, "queue.full")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    async with scheduler.open_flow(A, 512, 60):
        pass


@scenario
async def test_an_admitted_flow_waits_for_room_and_never_exceeds_the_bound() -> None:
    scheduler, model = Scheduler(1024), FakeModel()
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, *[window(1, 512)] * 6)
        await settle()
        assert scheduler.queued_tokens == 1024
        scheduler.attach(model, A)
        for _ in range(6):
            await model.answer()
            assert scheduler.queued_tokens <= 1024
        await asyncio.gather(*tasks)


@scenario
async def test_the_deadline_ends_what_waits_with_504() -> None:
    scheduler, model = Scheduler(5120), FakeModel()
    async with scheduler.open_flow(A, 512, 0.01) as flow:
        (waits,) = ask(flow, window(1))
        with pytest.raises(ProblemError) as late:
            await waits
        assert (late.value.kind.status, late.value.code) == (504, "deadline.exceeded")
        with pytest.raises(ProblemError):
            await flow.predict(window(1))
        scheduler.attach(model, A)
        await settle()
    assert model.seen == []


@scenario
async def test_a_flow_that_is_answered_goes_on_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a flow waits is told by this clock: on a busy machine the real one jumps.
    now = time.perf_counter()
    monkeypatch.setattr("app.model.flow.time", SimpleNamespace(perf_counter=lambda: now))
    scheduler, model = Scheduler(5120), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 0.1) as flow:
        for _ in range(3):
            tasks = ask(flow, window(1))
            await settle()
            now += 0.06
            await model.answer()
            await asyncio.gather(*tasks)
        now += 0.12  # its client's time, in which it asks for nothing
        await asyncio.sleep(0.12)  # by then the deadline was looked at
        tasks = ask(flow, window(1))
        await settle()
        await model.answer()
        await asyncio.gather(*tasks)


@scenario
async def test_what_a_client_left_behind_is_dropped() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    scheduler.attach(model, A)

    async def request() -> None:
        async with scheduler.open_flow(A, 512, 60) as flow:
            await asyncio.gather(*ask(flow, *[window(1)] * 20))

    client = asyncio.create_task(request())
    await settle()
    assert scheduler.queued_windows == 18
    client.cancel()
    await settle()
    assert (scheduler.queued_windows, scheduler.open_flows) == (0, 0)
    await model.answer(2)
    assert model.seen == [1, 1]


@scenario
async def test_a_cancelled_prediction_leaves_the_queue() -> None:
    scheduler = Scheduler(65536)
    async with scheduler.open_flow(A, 512, 60) as flow:
        kept, cancelled = ask(flow, window(1), window(2))
        await settle()
        cancelled.cancel()
        await settle()
        assert scheduler.queued_windows == 1
        model = FakeModel()
        scheduler.attach(model, A)
        await settle()
        await model.answer()
        await kept
    assert model.seen == [1]


@scenario
async def test_what_waits_is_predicted_together_up_to_the_budget() -> None:
    scheduler, model = Scheduler(65536), FakeModel(batch_tokens=30)
    async with scheduler.open_flow(A, 512, 60) as upload, scheduler.open_flow(A, 512, 60) as single:
        tasks = ask(upload, *[window(name) for name in (1, 2, 3, 4, 5, 6, 7)])
        await settle()
        tasks += ask(single, window(9, 25))
        await settle()
        scheduler.attach(model, A)
        await settle()
        assert model.batches == [[1], [9]]
        await model.answer(4)
        for task, name in zip(tasks, (1, 2, 3, 4, 5, 6, 7, 9), strict=True):
            assert set((await task)[:, 0]) == {name}
        # The model took 0.01 s for each batch, whoever else was in it.
        assert upload.predicting_seconds == pytest.approx(0.03)
        assert single.predicting_seconds == pytest.approx(0.01)
    assert model.batches == [[1], [9], [2, 3, 4], [5, 6, 7]]


@scenario
async def test_what_one_request_asks_for_at_once_goes_together_from_the_first_batch_on() -> None:
    scheduler, model = Scheduler(65536), FakeModel(batch_tokens=512)
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, *[window(1, 56)] * 32)
        await model.answer(4)
        await asyncio.gather(*tasks)
    assert [len(batch) for batch in model.batches] == [9, 9, 9, 5]


@scenario
async def test_a_window_over_the_budget_goes_alone() -> None:
    scheduler, model = Scheduler(65536), FakeModel(batch_tokens=30)
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, window(1), window(2, 400), window(3), window(4))
        await settle()
        scheduler.attach(model, A)
        await settle()
        await model.answer(3)
        await asyncio.gather(*tasks)
    assert model.batches == [[1], [2], [3, 4]]


@scenario
async def test_retry_after_follows_the_measured_speed() -> None:
    scheduler, model = Scheduler(1024), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as flow:
        for _ in range(60):
            (task,) = ask(flow, window(1, 1))  # 1 token in 0.01 s: 100 tokens a second
            await settle()
            await model.answer()
            await task
        async with scheduler.open_flow(A, 512, 60):
            with pytest.raises(ProblemError) as refused:
                async with scheduler.open_flow(A, 512, 60):
                    pass
    assert int(refused.value.headers["Retry-After"]) == pytest.approx(1024 / 100, rel=0.2)


@scenario
async def test_what_was_prepared_for_one_bundle_is_never_answered_by_another() -> None:
    scheduler, old, new = Scheduler(65536), FakeModel(), FakeModel()
    async with scheduler.open_flow(A, 512, 60) as before, scheduler.open_flow(B, 512, 60) as after:
        stale, fresh = ask(before, window(1), window(1)), ask(after, window(2))
        await settle()
        scheduler.attach(new, B)
        await settle()
        await new.answer()
        await asyncio.gather(*fresh)
        for task in stale:
            with pytest.raises(ProblemError) as replaced:
                await task
            assert (replaced.value.kind.status, replaced.value.code) == (503, "model.replaced")
            assert replaced.value.headers["Retry-After"] == "1"
        with pytest.raises(ProblemError):
            await before.predict(window(1))
    with pytest.raises(ProblemError) as late:
        async with scheduler.open_flow(A, 512, 60):
            pass
    assert late.value.code == "model.replaced"
    scheduler.attach(old, A)
    async with scheduler.open_flow(A, 512, 60) as again:
        (task,) = ask(again, window(1))
        await settle()
        await old.answer()
        await task
    assert (old.seen, new.seen) == ([1], [2])


@scenario
async def test_no_flow_is_opened_once_no_model_will_come() -> None:
    """A request may have begun while there was one: it would wait until its deadline."""
    scheduler, model = Scheduler(65536), FakeModel()
    scheduler.attach(model, A)
    scheduler.fail_all(lambda: ProblemError("model.failed", "d"))
    with pytest.raises(ProblemError) as refused:
        async with scheduler.open_flow(A, 512, 60):
            pass
    assert refused.value.code == "model.failed"
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60):
        pass
