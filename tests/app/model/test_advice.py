"""What people are told to do about a failure."""

import pytest

from app.model.advice import advice_for


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("checkpoint.unavailable", "--model gena-mini"),
        ("checkpoint.unsupported", "Fetch the checkpoint again"),
        ("package.refused", "--precision fp32"),
        ("package.invalid", "See the log"),
        ("bundle.invalid", "Remove the bundle folder"),
        ("bundle.replaced", "Wait until"),
        ("disk.full", "TMPDIR"),
        ("model.start", "ulimit -n"),
        ("disk.full", "GENA_BUNDLES"),
        ("model.crashing", "GENA_COMPUTE_UNITS=CPU_ONLY"),
        ("internal", "See the log"),
    ],
)
def test_the_longest_beginning_of_a_code_that_is_known_decides(code: str, says: str) -> None:
    assert says in advice_for(code)
