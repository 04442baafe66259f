"""Windows of several requests in one prediction: what one of them does to the others."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import stand_in_model as stand_in
from tests.support.running import STAND_IN_SERVER, Server, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = make_bundle(tmp_path_factory.mktemp("batches") / "bundle")
    # More than a busy machine takes for a prediction of nothing; what hangs waits for it twice.
    settings = {"GENA_PREDICT_TIMEOUT_SECONDS": "3", "STAND_IN_BATCH_TOKENS": "512"}
    with running(STAND_IN_SERVER, GENA_BUNDLE=str(bundle), **settings) as server:
        assert server.wait_for("ready")["runtime"]["batch_tokens"] == 512
        yield server


def answers(server: Server, *windows: tuple[int, ...]) -> list[httpx.Response]:
    """Of requests that come while the model is busy with two others."""
    busy = [(1, stand_in.SLOW, number) for number in (7, 8)]
    with ThreadPoolExecutor(len(windows) + len(busy)) as clients:
        # For two seconds, which is long enough to be seen on a busy machine.
        slow = [clients.submit(server.predict, *window, repeat=5) for window in busy]
        until(lambda: "gena_open_flows 2.0" in server.http.get("/metrics").text, "both are in")
        rest = [clients.submit(server.predict, *window) for window in windows]
    assert [each.result().status_code for each in slow] == [200, 200]
    return [each.result() for each in rest]


def well(number: int) -> tuple[int, ...]:
    return (1, *range(10, 10 + number), 2)


@pytest.mark.parametrize("guilty", [stand_in.KILLED, stand_in.HANGS], ids=["killed", "hung"])
def test_who_kills_the_model_takes_no_others_along(server: Server, guilty: int) -> None:
    before = server.health()["restarts"]
    windows = [well(1), well(2), (1, guilty, 2), well(3), well(4), well(5)]
    found = answers(server, *windows)
    problem = found.pop(2)
    assert (problem.status_code, problem.json()["code"]) == (503, "model.crashed")
    for window, answer in zip([*windows[:2], *windows[3:]], found, strict=True):
        assert (answer.status_code, answer.json()) == (200, {"rows": [*map(float, window)]})
    # Once with the others, once alone.
    assert server.health()["restarts"] - before == 2


@pytest.mark.parametrize(
    ("bad", "code"), [(stand_in.NOT_FINITE, "model.not_finite"), (stand_in.RAISES, "model.error")]
)
def test_an_error_is_of_its_window_alone(server: Server, bad: int, code: str) -> None:
    before = server.health()["restarts"]
    found = answers(server, well(1), (1, bad, 2), well(3))
    assert [each.status_code for each in found] == [200, 500, 200]
    assert found[1].json()["code"] == code
    assert server.health()["restarts"] == before
