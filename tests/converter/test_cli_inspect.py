"""`gena inspect`, on a package whose figures can be worked out by hand."""

import argparse
import json
from pathlib import Path

import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813

from converter.cli_inspect import add_inspect_command
from tests.support.mil_packages import HIDDEN, TOKENS, feed_forward, half, save_program


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return save_program(tmp_path, {"x": half(1, HIDDEN, 1, TOKENS)}, feed_forward)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_inspect_command(parser.add_subparsers())
    args = parser.parse_args(["inspect", *arguments])
    status: int = args.func(args)
    return status


def test_table(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(package)) == 0
    shown = capsys.readouterr().out
    assert "4: 2 conv, 1 gelu, 1 add" in shown
    assert "36864 bytes" in shown or "0.04 MiB" in shown
    assert "0 findings" in shown


def test_json_and_comparison(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_program(tmp_path / "other", {"x": half(1, 64)}, lambda x: mb.exp(x=x))
    assert run(str(package), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["functions"]["main"]["operations"] == {"conv": 2, "gelu": 1, "add": 1}
    assert run(str(package), "--compare", str(other), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert run(str(package), "--compare", str(other)) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["conv"] == ["2", "0"]
    assert rows["exp"] == ["0", "1"]
