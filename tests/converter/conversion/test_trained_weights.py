"""Real trained weights keep the Neural Engine."""

from pathlib import Path

import pytest

from converter.conversion.convert import convert
from tests.support.conversions import GATES, verdicts
from tests.support.paths import SHARED
from tools.antiberty import WheelUnavailableError, antiberty_checkpoint

TOKENIZER = SHARED / "data" / "gena-lm-bert-base" / "tokenizer.json"


@pytest.mark.long
def test_antiberty_is_verified_without_an_fp32_operation_in_its_encoder(tmp_path: Path) -> None:
    """67 dB with fp32 arithmetic, 61 with every operation in fp16."""
    try:
        tokenizer = TOKENIZER if TOKENIZER.is_file() else None
        folder = antiberty_checkpoint(tmp_path / "antiberty", tokenizer)
    except WheelUnavailableError as why:
        pytest.skip(str(why))
    # All lengths: most windows are executed at a short one, so that it takes less than with one.
    bundle = convert(str(folder), output=tmp_path / "out")
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert bundle.manifest.precision["chosen"] == "fp16"
    engine = bundle.manifest.fidelity["engine"]
    assert engine["encoder_operations_off"] == 0
    assert engine["floating_point_operations_off"] == 0
    assert engine["segments"] == 1
