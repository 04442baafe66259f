"""The limit of open files."""

import resource

import pytest

from app.host.descriptors import most_connections, raise_limit

UNLIMITED = resource.RLIM_INFINITY


class Kernel:
    """Limits, and up to which the soft one can be set (on a Mac, below a hard one without end)."""

    RLIM_INFINITY = UNLIMITED
    RLIMIT_NOFILE = resource.RLIMIT_NOFILE

    def __init__(self, soft: int, hard: int, allows: int) -> None:
        self.limits, self._allows = (soft, hard), allows

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if not 0 <= limits[0] <= self._allows:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "allows", "then"),
    [
        (256, UNLIMITED, 10_240, 10_240),
        (256, UNLIMITED, 8_000, 5_120),
        (256, 256, 256, 256),
        (1024, 4096, 4096, 4096),
        (20_000, 20_000, 20_000, 20_000),
        (UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED),
    ],
)
def test_it_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allows: int, then: int
) -> None:
    kernel = Kernel(soft, hard, allows)
    monkeypatch.setattr("app.host.descriptors.resource", kernel)
    limit = raise_limit()
    assert kernel.limits == (then, hard)
    assert limit == (then if 0 <= then < 10_240 else 10_240)


@pytest.mark.parametrize(("limit", "most"), [(256, 64), (10_240, 3392), (16, 8)])
def test_connections_leave_room_for_their_files(limit: int, most: int) -> None:
    assert most_connections(limit) == most
