"""The queue when models die: who is answered after all, who is not, and in which order."""

import asyncio

import pytest

from app.errors import ProblemError
from app.model.prediction import ModelDiedError
from app.model.scheduler import Scheduler
from tests.support.fake_model import A, B, FakeModel, ask, window
from tests.support.scenarios import scenario, settle


@scenario
async def test_a_death_fails_the_window_it_happened_on_and_no_other() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as one, scheduler.open_flow(A, 512, 60) as two:
        (guilty,), (bystander,) = ask(one, window(1)), ask(two, window(2))
        await settle()
        await model.fail(ModelDiedError("killed", started=True))
        await model.fail(ModelDiedError("killed", started=False))
        with pytest.raises(ProblemError) as crashed:
            await guilty
        assert (crashed.value.kind.status, crashed.value.code) == (503, "model.crashed")
        assert not bystander.done()
        successor = FakeModel()
        scheduler.attach(successor, A)
        await settle()
        await successor.answer()
        assert (await bystander)[0, 0] == 2


@scenario
async def test_windows_that_never_started_go_first_in_their_old_order() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    async with (
        scheduler.open_flow(A, 512, 60) as one,
        scheduler.open_flow(A, 512, 60) as two,
        scheduler.open_flow(A, 512, 60) as three,
    ):
        tasks = ask(one, *[window(1)] * 3) + ask(two, *[window(2)] * 3) + ask(three, window(3))
        await settle()
        scheduler.attach(model, A)
        await settle()
        assert model.seen == [1, 2]
        # It was dead before it could begin with either.
        await model.fail(ModelDiedError("killed", started=False))
        await model.fail(ModelDiedError("killed", started=False))
        successor = FakeModel()
        scheduler.attach(successor, A)
        await settle()
        await successor.answer(7)
        await asyncio.gather(*tasks)
    # Then everybody has one turn, as ever.
    assert successor.seen == [1, 2, 3, 1, 2, 1, 2]


@scenario
async def test_windows_of_one_request_keep_their_order_after_a_death() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, *[window(name) for name in (1, 2, 3)])
        await settle()
        scheduler.attach(model, A)
        await settle()
        await model.fail(ModelDiedError("killed", started=False))
        await model.fail(ModelDiedError("killed", started=False))
        successor = FakeModel()
        scheduler.attach(successor, A)
        await settle()
        await successor.answer(3)
        await asyncio.gather(*tasks)
    assert successor.seen == [1, 2, 3]


@scenario
async def test_a_window_that_never_started_is_not_overtaken_death_after_death() -> None:
    scheduler = Scheduler(65536)
    async with (
        scheduler.open_flow(A, 512, 60) as unlucky,
        scheduler.open_flow(A, 512, 60) as upload,
    ):
        bulk = ask(upload, *[window(1)] * 20)
        await settle()
        ask(unlucky, window(2))
        await settle()
        seen = []
        for _ in range(2):
            model = FakeModel()
            scheduler.attach(model, A)
            await settle()
            await model.fail(ModelDiedError("killed", started=True))
            await model.fail(ModelDiedError("killed", started=False))
            seen.append(model.seen)
        assert seen == [[1, 2], [2, 1]]
        scheduler.fail_all(lambda: ProblemError("model.failed", "d"))
        await asyncio.gather(*bulk, return_exceptions=True)


@scenario
async def test_windows_that_were_together_when_the_model_died_are_tried_alone() -> None:
    scheduler, model = Scheduler(65536), FakeModel(batch_tokens=100)
    async with scheduler.open_flow(A, 512, 60) as one, scheduler.open_flow(A, 512, 60) as two:
        tasks = ask(one, window(1), window(2)) + ask(two, window(7), window(8))
        await settle()
        scheduler.attach(model, A)
        await settle()
        assert model.batches == [[1, 7, 2, 8]]
        tasks += ask(one, window(3), window(4))
        await settle()
        await model.fail(ModelDiedError("killed", started=True))
        await model.fail(ModelDiedError("killed", started=False))
        second = FakeModel(batch_tokens=100)
        scheduler.attach(second, A)
        await settle()
        # 7 is the guilty one.
        await second.answer()
        await second.fail(ModelDiedError("killed", started=True))
        await second.fail(ModelDiedError("killed", started=False))
        third = FakeModel(batch_tokens=100)
        scheduler.attach(third, A)
        await settle()
        await third.answer(3)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(each, "code", "well") for each in results] == [
        "well",
        "well",
        "model.crashed",
        "well",
        "well",
        "well",
    ]
    assert second.batches == [[1], [7], [2]]
    assert third.batches == [[2], [8], [3, 4]]


@scenario
async def test_nothing_is_handed_to_a_dead_model() -> None:
    scheduler, model = Scheduler(65536), FakeModel()
    scheduler.attach(model, A)
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, *[window(1)] * 6)
        await settle()
        await model.fail(ModelDiedError("killed", started=True))
        await settle()
        assert len(model.seen) == 2
        scheduler.fail_all(lambda: ProblemError("model.failed", "d"))
        results = await asyncio.gather(*tasks[2:], return_exceptions=True)
        assert [getattr(each, "code", each) for each in results] == ["model.failed"] * 4
        tasks[1].cancel()
        with pytest.raises(ProblemError):
            await tasks[0]


@scenario
async def test_a_window_of_a_dead_model_is_not_handed_to_one_of_another_bundle() -> None:
    scheduler, old, new = Scheduler(1024), FakeModel(), FakeModel()
    scheduler.attach(old, A)
    async with scheduler.open_flow(A, 512, 60) as flow:
        tasks = ask(flow, *[window(1)] * 130)  # the last ones wait for room
        await settle()
        scheduler.detach()
        scheduler.attach(new, B)
        await old.fail(ModelDiedError("killed", started=True))
        await old.fail(ModelDiedError("killed", started=False))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(each, "code", each) for each in results] == ["model.replaced"] * 130
    assert new.seen == []
