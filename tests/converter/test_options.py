"""Choices and what they come to; the command line shows them as they are."""

import platform
import sys
from typing import Any

import pytest

from converter.cli import main
from converter.errors import GenaError
from converter.options import BuildOptions, function_names, target_here


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        BuildOptions.model_validate({"weights": "int3"})
    with pytest.raises(ValueError, match="colour"):
        BuildOptions.model_validate({"colour": "red"})


def test_a_target_has_its_lengths_and_functions() -> None:
    one, several = BuildOptions(target="macos14"), BuildOptions(target="macos15")
    assert one.functions(512) == {512: "main"}
    assert one.lengths(1024) == (1024,)
    assert several.lengths(512) == (128, 256, 512)
    assert several.functions(512) == {128: "length_128", 256: "length_256", 512: "length_512"}
    assert several.lengths(1024) == (128, 256, 512, 1024)
    assert function_names((64,)) == {64: "main"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ffn_chunks": 0}, "--ffn-chunks 0: expected 1 or more"),
        ({"ffn_chunks": 3}, r"128 channels .* 3 chunks \(--ffn-chunks\)"),
        ({"layout": "published", "embedding": "host"}, "published layout"),
        ({"layout": "published", "ffn_chunks": 2}, "published layout"),
    ],
)
def test_what_cannot_be_built_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GenaError, match=message):
        BuildOptions(**options).require_possible(128)


@pytest.mark.parametrize("options", [{}, {"ffn_chunks": 4}, {"layout": "published"}])
def test_what_can_be_built_passes(options: dict[str, Any]) -> None:
    BuildOptions(**options).require_possible(128)


def test_the_command_line_offers_every_choice_and_says_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for expected in (
        "--target {auto,macos15,macos14} macos15: lengths from 128 tokens to the model's window, "
        "sharing weights; macos14: that window alone; auto: what this Mac runs, elsewhere macos15 "
        "(default: auto)",
        "--embedding {graph,host} where tokens are looked up (default: graph)",
        "--ffn-chunks N feed-forward in N chunks (default: 1)",
        "(default: neural-engine)",
        "--precision {auto,mixed,fp16,fp32} auto: fp16, with the cures and the short fp32 prefix "
        "that fidelity asks for; mixed: fp32 wherever it buys a few dB, which costs the Neural "
        "Engine (default: auto)",
        "--weights {fp16,int8,palettized6}",
    ):
        assert expected in shown


@pytest.mark.parametrize(
    ("system", "version", "target"),
    [
        ("darwin", "14.6.1", "macos14"),
        ("darwin", "15.5", "macos15"),
        ("darwin", "26.1", "macos15"),
        ("linux", "", "macos15"),
    ],
)
def test_the_target_is_what_this_mac_runs(
    system: str, version: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), "arm64"))
    assert target_here() == target
