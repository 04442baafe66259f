"""How a model that is not there is told: by HTTP, which the model's own room does not know."""

import subprocess
import sys

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.dependencies import unavailable_problem
from app.model.prediction import Prediction
from app.model.state import ModelUnavailableError, State
from tests.support.live_service import Service

MANY = "".join(f">r{n}\nACGTTGCAAGGCTATTC\n" for n in range(300)).encode()
STOPPING = State("stopping", "The service is shutting down.")


def told(state: State, retry_after: float = 0.0) -> dict[str, object]:
    problem = unavailable_problem(ModelUnavailableError(state, retry_after))
    return {**problem.headers, **problem.as_dict()}


@pytest.mark.parametrize("status", ["converting", "loading"])
def test_a_model_on_its_way(status: str) -> None:
    said = told(State(status, "Loading lab/model."), retry_after=17)  # type: ignore[arg-type]
    assert (said["status"], said["code"]) == (503, "model.not_ready")
    assert said["Retry-After"] == "5"
    assert str(said["detail"]).startswith("Loading lab/model. GET /health")


@pytest.mark.parametrize(("left", "seconds"), [(29.7, "30"), (0.2, "1")])
def test_a_failure(left: float, seconds: str) -> None:
    state = State("failed", "No network.", code="checkpoint.unavailable", advice="Check it.")
    said = told(state, left)
    assert (said["status"], said["code"]) == (503, "model.failed")
    assert said["reason"] == "checkpoint.unavailable"
    assert said["Retry-After"] == seconds
    assert said["detail"] == (
        f"No network. Check it. The next request after {seconds} s tries again; "
        "POST /health/retry does so at once."
    )


def test_the_end() -> None:
    said = told(STOPPING)
    assert (said["status"], said["code"]) == (503, "server.stopping")
    assert (said["Retry-After"], said["Connection"]) == ("5", "close")


def test_an_answer_that_is_cut_by_the_end_is_logged_with_the_reason(
    uncached: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = uncached.model.predict

    async def until_the_end(window: NDArray[np.int32]) -> Prediction:
        if len(uncached.model.seen) > 150:
            raise ModelUnavailableError(STOPPING, 0.0)
        return await predict(window)

    monkeypatch.setattr(uncached.model, "predict", until_the_end)
    with (
        uncached.client.stream("POST", "/embeddings?format=tsv", content=MANY) as response,
        pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
    ):
        response.read()
    (cut,) = [each for each in caplog.records if "cut off" in each.message]
    assert "server.stopping: No new work is taken" in cut.message
    assert cut.exc_info is None


def test_the_models_room_knows_no_http() -> None:
    code = "import sys, app.model.lifecycle, app.model.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "app.model.scheduler" in loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "torch", "coremltools"}
