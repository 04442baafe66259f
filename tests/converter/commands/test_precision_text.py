"""What a person reads about the choice of precision."""

from converter.commands.precision_text import precision_lines

FP16 = {
    "chosen": "fp16",
    "reason": "every gate passes as expected",
    "cures": [],
    "fp32_modules": [],
    "limited_by": [],
}


def test_what_needed_nothing_is_one_line() -> None:
    assert precision_lines(FP16) == ["precision fp16: every gate passes as expected"]


def test_a_prefix_its_cures_and_what_limits_fp16_are_named() -> None:
    limits = [
        {"module": "blocks.0.attention", "psnr_db": 45.5},
        {"module": "embedding_stage", "psnr_db": None},
    ]
    precision = {
        **FP16,
        "chosen": "prefix",
        "cures": ["centred keys and values"],
        "fp32_modules": ["embedding_stage", "blocks.0.attention"],
        "limited_by": limits,
    }
    assert precision_lines(precision)[1:] == [
        "cures: centred keys and values",
        "in fp32: embedding_stage, blocks.0.attention",
        "fp16 is limited by, each alone: blocks.0.attention 45.5 dB, embedding_stage overflows",
    ]


def test_all_in_fp32_is_said() -> None:
    assert "in fp32: all" in precision_lines({**FP16, "chosen": "fp32", "fp32_modules": [""]})
