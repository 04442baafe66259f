"""The queue in front of a model that reads 1,024 tokens at a time."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import ProblemError
from app.model.state import ModelUnavailableError
from converter.bundle.location import default_bundle_folder
from tests.support.lifecycles import living, reach
from tests.support.scenarios import scenario
from tests.support.stand_in_bundle import make_bundle
from tests.support.stand_in_model import HIDDEN


@scenario
async def test_a_queue_of_one_window_is_enough_for_a_model_of_longer_ones(tmp_path: Path) -> None:
    make_bundle(default_bundle_folder("lab/model", None, tmp_path), lengths=(128, 1024))
    async with living(tmp_path, queue_tokens=1024, batch_tokens=1) as lifecycle:
        await reach(lifecycle, "ready")
        model = lifecycle.ready_model()
        async with model.open_flow(60) as flow:
            rows = await flow.predict(np.arange(1024, dtype=np.int32) % 200)
            assert rows.shape == (1024, HIDDEN)
            with pytest.raises(ValueError, match="1 to 1024 ids, not 1025"):
                await flow.predict(np.ones(1025, np.int32))
            with pytest.raises(ProblemError) as full:
                async with model.open_flow(60):
                    pass
        assert full.value.code == "queue.full"


@scenario
async def test_a_queue_that_holds_no_window_of_the_model_is_a_failure(tmp_path: Path) -> None:
    make_bundle(default_bundle_folder("lab/model", None, tmp_path), lengths=(128, 1024))
    async with living(tmp_path, queue_tokens=1023) as lifecycle:
        state = await lifecycle.failed_to_begin()
        assert (state.status, state.code) == ("failed", "queue.too_small")
        assert "room for 1023 tokens, and a window of stand-in has 1024." in state.message
        assert "GENA_QUEUE_TOKENS" in (state.advice or "")
        with pytest.raises(ModelUnavailableError):
            lifecycle.ready_model()
