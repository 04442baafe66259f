"""A window that cannot be computed costs its own vector and no other; a model that dies, time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from app.embed.embedder import Job
from app.embed.errors import TryAgainError
from app.embed.local import LocalModel
from app.embed.shards import Answer
from app.embed.threads import Threads
from app.embed.windows import Row
from app.metrics import Metrics
from app.model import supervisor
from app.model.children import module_command
from app.model.lifecycle import Lifecycle
from app.model.prediction import ModelDiedError, Prediction
from app.requests.options import Choices
from app.settings import Settings
from converter.bundle.opening import Bundle
from converter.pooling import Poolings, of_each, pooled
from tests.support.embedding import InMemory
from tests.support.live_service import ReadyLifecycle, Truth
from tests.support.scenarios import scenario


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return Truth.make(tmp_path_factory.mktemp("truth"))


@dataclass
class Fragile:
    """Rows that are the window's ids; some windows are too much for it.

    Attributes:
        dies_of: windows of so many ids, and how often; it is there again at once.
        bad: windows of so many ids have NaN in their rows; huge ones do not fit float16.
    """

    lifecycle: ReadyLifecycle | None = None
    dies_of: dict[int, int] = field(default_factory=dict)
    bad: frozenset[int] = frozenset()
    huge: frozenset[int] = frozenset()
    batch_tokens: int = 64
    n_deaths: int = 0

    async def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> Prediction:
        await asyncio.sleep(0)
        for size in map(len, windows):
            if self.dies_of.get(size, 0) > 0:
                self.dies_of[size] -= 1
                self.n_deaths += 1
                assert self.lifecycle is not None
                scheduler = self.lifecycle.scheduler
                fingerprint = self.lifecycle.ready_model().fingerprint
                asyncio.get_running_loop().call_later(0.01, scheduler.attach, self, fingerprint)
                raise ModelDiedError("it died", started=True)
        wanted = of_each(poolings, [len(window) for window in windows])
        return Prediction(list(map(pooled, map(self._rows, windows), wanted)), seconds=0.001)

    def _rows(self, window: NDArray[np.int32]) -> NDArray[np.float32]:
        value = np.nan if len(window) in self.bad else 1e6 if len(window) in self.huge else 1.0
        return np.full((len(window), 64), value, np.float32)


async def answers(truth: Truth, model: Fragile, texts: list[str], **more: str) -> list[object]:
    settings = Settings(cache_bytes=0)
    lifecycle = ReadyLifecycle(settings, truth, model)
    model.lifecycle = lifecycle
    choices = Choices(pooling="mean", overflow="window", **more)
    local = LocalModel(lifecycle, settings, choices, Threads())
    tokenizer = await local.ready(lambda _text: None)
    assert tokenizer is not None
    local.sequences = InMemory([(f"r{n}", text) for n, text in enumerate(texts)])
    rows = [Row(record, 0, len(text)) for record, text in enumerate(texts)]
    told: list[tuple[int, int]] = []
    found = await local.compute(
        await local.prepare(Job(rows)), lambda windows, bases: told.append((windows, bases))
    )
    assert sum(windows for windows, _ in told) == sum(each.values is not None for each in found)
    return [each.problem or each.n_tokens for each in found]


def sizes(truth: Truth, texts: list[str]) -> list[int]:
    return [len(truth.ids(text)) + 2 for text in texts]


TEXTS = ["ACGT" * n for n in (1, 30, 7, 60, 15)]


@scenario
async def test_a_model_that_dies_of_a_window_costs_that_window(truth: Truth) -> None:
    counts = sizes(truth, TEXTS)
    model = Fragile(dies_of={counts[3]: 99})
    expected: list[object] = [*counts]
    expected[3] = "model.crashed"
    assert await answers(truth, model, TEXTS) == expected
    assert model.n_deaths < 9


@scenario
async def test_a_model_that_was_killed_costs_nothing(truth: Truth) -> None:
    counts = sizes(truth, TEXTS)
    model = Fragile(dies_of=dict.fromkeys(counts, 2))
    assert await answers(truth, model, TEXTS) == counts
    assert model.n_deaths


@scenario
async def test_what_is_no_number_or_does_not_fit_is_told_of_its_window(truth: Truth) -> None:
    counts = sizes(truth, TEXTS)
    model = Fragile(bad=frozenset({counts[0]}), huge=frozenset({counts[4]}))
    expected: list[object] = [*counts]
    expected[0], expected[4] = "model.not_finite", "dtype.overflow"
    assert await answers(truth, model, TEXTS, dtype="float16") == expected


@scenario
async def test_several_windows_that_kill_the_model_cost_themselves_only(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a row they look like a model that gives no answer at all."""
    monkeypatch.setenv("STAND_IN_BATCH_TOKENS", "64")
    monkeypatch.setattr(supervisor, "_FIRST_BACK_OFF", 0.0)
    (unknown,) = tiny_bundle.tokenizer().encode("N").ids
    monkeypatch.setenv("STAND_IN_KILLED", str(unknown))
    deadly = ["ACGT" * n + "N" for n in range(9)]
    texts = ["ACGT", *deadly[:3], "TTTT"]
    settings = Settings(bundle=tiny_bundle.path, cache_bytes=0)
    command = module_command("tests.support.stand_in_model")
    lifecycle = Lifecycle(settings, Metrics(), model_command=command)
    lifecycle.start()
    local = LocalModel(lifecycle, settings, Choices(pooling="mean", overflow="window"), Threads())
    await local.ready(lambda _text: None)
    found = await embedded(local, texts)
    assert [each.problem for each in found] == [None, *["model.crashed"] * 3, None]
    # And where it dies of whatever it is given, it is given up.
    with pytest.raises(TryAgainError, match="never gave an answer"):
        await embedded(local, deadly)
    await lifecycle.stop()


async def embedded(local: LocalModel, texts: list[str]) -> list[Answer]:
    local.sequences = InMemory([(f"r{n}", text) for n, text in enumerate(texts)])
    job = Job([Row(record, 0, len(text)) for record, text in enumerate(texts)])
    return await local.compute(await local.prepare(job), lambda _windows, _bases: None)


@scenario
async def test_a_model_that_hangs_is_no_fault_of_the_windows(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Fragile):
        async def predict(
            self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
        ) -> Prediction:
            await asyncio.sleep(3600)
            return await super().predict(windows, poolings)

    monkeypatch.setenv("GENA_DEADLINE_SECONDS", "0.2")
    with pytest.raises(TryAgainError, match="goes on from here"):
        await answers(truth, Hanging(), TEXTS)
