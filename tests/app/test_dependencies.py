"""How a model that is not there is told: by HTTP, which the model's own room does not know."""

import pytest

from app.dependencies import unavailable_problem
from app.model.state import ModelUnavailableError, State, Status


def told(state: State, retry_after: float = 0.0) -> dict[str, object]:
    problem = unavailable_problem(ModelUnavailableError(state, retry_after))
    return {**problem.headers, **problem.as_dict()}


@pytest.mark.parametrize("status", ["converting", "loading"])
def test_while_a_model_is_on_its_way_another_try_is_worth_it_soon(status: Status) -> None:
    said = told(State(status, "Loading lab/model."), retry_after=17)
    assert (said["status"], said["code"]) == (503, "model.not_ready")
    assert said["Retry-After"] == "5"
    assert str(said["detail"]).startswith("Loading lab/model. GET /health")


def test_a_message_that_is_no_sentence_becomes_one() -> None:
    said = told(State("converting", "Reading model.safetensors"))
    assert str(said["detail"]).startswith("Reading model.safetensors. GET /health")


@pytest.mark.parametrize(("left", "seconds"), [(29.7, "30"), (0.2, "1")])
def test_a_failure_says_what_to_do_and_when_it_is_tried_again(left: float, seconds: str) -> None:
    state = State("failed", "No network.", code="checkpoint.unavailable", advice="Check it.")
    said = told(state, left)
    assert (said["status"], said["code"]) == (503, "model.failed")
    assert said["reason"] == "checkpoint.unavailable"
    assert said["Retry-After"] == seconds
    assert said["detail"] == (
        f"No network. Check it. The next request after {seconds} s tries again; "
        "POST /health/retry does so at once."
    )


def test_a_server_that_stops_says_so_and_closes_the_connection() -> None:
    said = told(State("stopping", "The service is shutting down."))
    assert (said["status"], said["code"]) == (503, "server.stopping")
    assert (said["Retry-After"], said["Connection"]) == ("5", "close")
