"""`gena tune`, against a stand-in for Core ML that misbehaves when told to."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.bundle.opening import Bundle
from converter.commands.tune import add_command, run
from converter.runtime.protocol import RuntimeUnavailableError
from converter.runtime.tuned_choice import choice_file
from tests.support import coreml_stand_in

UNITS = {"CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"}


def tune_arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    return parser.parse_args(["tune", *argv])


def test_tune_measures_prints_and_chooses(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behave(CPU_AND_NE="slow", CPU_ONLY="garbage")
    arguments = tune_arguments(str(bundle.path), "--repeats", "3", "--json")
    assert run(arguments, coreml_stand_in.__name__, tmp_path / "cache") == 0
    (measured,) = json.loads(capsys.readouterr().out)
    # Not the slow one, not the wrong one, and never ALL.
    assert measured["choice"] == "CPU_AND_GPU"
    checks = {check["compute_units"]: check for check in measured["measurements"]}
    assert set(checks) == UNITS
    assert checks["CPU_ONLY"]["outcome"] == "refused"
    assert checks["CPU_AND_NE"]["milliseconds"]["128"] >= 1000 * coreml_stand_in.SLOW_SECONDS
    for check in checks.values():
        for length in ("128", "512"):
            assert check["p95_milliseconds"][length] >= check["milliseconds"][length]
            assert check["load_seconds"][length] >= 0
        assert check["memory_mib"] > 20  # Python and numpy
    assert checks["CPU_AND_NE"]["placement"]["512"] == {"NeuralEngine": 40, "CPU": 3}
    assert checks["ALL"]["placement"] == {}
    (entry,) = json.loads(choice_file(bundle).read_text()).values()
    assert entry["compute_units"] == "CPU_AND_GPU"
    assert entry["measurements"] == measured["measurements"]


def test_the_table_has_a_line_for_each_bundle_units_and_length(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behave(CPU_AND_GPU="crash")
    arguments = tune_arguments(
        str(bundle.path), "--repeats", "2", "--compute-units", "CPU_AND_NE", "CPU_AND_GPU"
    )
    assert run(arguments, coreml_stand_in.__name__, tmp_path / "cache") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["bundle", "compute", "units"]
    assert [line.split()[1:3] for line in lines[1:3]] == [
        ["CPU_AND_NE", "128"],
        ["CPU_AND_NE", "512"],
    ]
    assert "chosen" in lines[1]
    assert "unknown" in lines[1]
    assert "NeuralEngine 40, CPU 3" in lines[2]
    assert "crashed" in lines[3]
    assert "Segmentation fault" in lines[4]


def test_tune_with_nothing_that_works_fails_and_writes_nothing(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behave(CPU_ONLY="garbage")
    arguments = tune_arguments(
        str(bundle.path), "--repeats", "1", "--compute-units", "CPU_ONLY", "ALL"
    )
    assert run(arguments, coreml_stand_in.__name__, tmp_path / "cache") == 1
    assert "nothing was chosen" in capsys.readouterr().out
    assert not choice_file(bundle).exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there on macOS")
def test_tune_off_macos_says_so(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="macOS"):
        run(tune_arguments(str(bundle.path)))
