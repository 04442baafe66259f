"""What all commands have: errors in a sentence, help, and a quick start."""

import subprocess
import sys

import pytest

from converter.cli import main
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "/no/such/bundle"], "There is no bundle"),
        (["convert", "--model", "/no/such/model"], "neither a folder"),
        (["convert", "--ffn-chunks", "0"], "--ffn-chunks 0"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    last = shown.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in shown


def test_the_command_line_loads_no_heavy_library_before_it_is_asked_to() -> None:
    """Nor does what the service imports of the converter: it has to start in a second."""
    code = (
        "import sys, converter.cli, converter.bundle.store, converter.checkpoint.files\n"
        "print(sys.modules.keys() & {'torch', 'coremltools', 'transformers', 'tqdm'})"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize("command", ["convert", "verify", "inspect", "tune"])
def test_help_tells_what_there_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"converter {command} [-h]" in capsys.readouterr().out
