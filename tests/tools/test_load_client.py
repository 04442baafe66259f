"""What judges the service under load, judged itself."""

import random
from collections import Counter

from tools.load_client import LoadReport, UploadReport, mixed_request


def test_what_breaks_a_promise_is_named() -> None:
    """The judge, before its verdicts count."""
    report = LoadReport(
        statuses=Counter({200: 5, 503: 1}),
        failures=["ReadTimeout after 60.0 s: /features"],
        refusals_without_retry_after=2,
        growth_mib={"server": 500.0, "model": 1.0},
    )
    broken = report.broken_promises()
    assert len(broken) == 4
    assert "status 503" in broken
    assert LoadReport(statuses=Counter({429: 5})).broken_promises() == ["nothing was answered"]
    slow = UploadReport(5000, 0.01, (2.0, 2.0), 9.0, 0)
    assert len(slow.broken_promises()) == 2


def test_the_mix_has_every_kind_and_is_the_same_every_time() -> None:
    mixed = [mixed_request(random.Random(seed)) for seed in range(200)]
    assert {path.partition("?")[0] for path, _ in mixed} == {"/features", "/embeddings"}
    assert {len(body) for _, body in mixed} >= {60, 300, 500, 4600, 6000}
    assert sum(body.startswith(">") for _, body in mixed) > 10
    assert mixed == [mixed_request(random.Random(seed)) for seed in range(200)]
