"""`gena inspect`, on a package whose figures can be worked out by hand."""

import json
from pathlib import Path

import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813

from converter.cli import main
from tests.support.bundles import ALL_FP16, fill
from tests.support.mil_packages import HIDDEN, TOKENS, feed_forward, half, save_program


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return save_program(tmp_path, {"x": half(1, HIDDEN, 1, TOKENS)}, feed_forward)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return save_program(tmp_path / "other", {"x": half(1, 64)}, lambda x: mb.exp(x=x))


def test_a_person_sees_operations_memory_and_findings(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(package)]) == 0
    shown = capsys.readouterr().out
    assert "4: 2 conv, 1 gelu, 1 add" in shown
    assert "0.04 MiB of activations at gelu" in shown  # 36,864 bytes
    assert "off the Neural Engine: 0 of 4 operations (0 in the encoder), 0.0% of the" in shown
    assert "0 findings" in shown


def test_a_program_gets_json_and_of_two_packages_a_list(
    package: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(package), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(package)
    assert document["functions"]["main"]["operations"] == {"conv": 2, "gelu": 1, "add": 1}
    assert main(["inspect", str(package), "--compare", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == document


def test_two_packages_stand_side_by_side(
    package: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(package), "--compare", str(other)]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["conv"] == ["2", "0"]
    assert rows["exp"] == ["0", "1"]


def test_a_bundle_is_read_through_its_package_and_goes_by_its_own_name(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    package.rename(bundle / "model.mlpackage")
    # A Mac's file system takes the bundle's manifest.json for a package's Manifest.json.
    (bundle / "Manifest.json").write_text("{}")
    assert main(["inspect", str(bundle), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(bundle)
    assert document["functions"].keys() == {"main"}


def test_of_a_bundle_it_says_what_limits_fp16(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    limits = [{"module": "blocks.1.attention", "psnr_db": 48.25}]
    fill(bundle, precision={**ALL_FP16, "chosen": "prefix", "limited_by": limits}, package=package)
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "\n  precision prefix: expected\n" in shown
    assert "\n  fp16 is limited by, each alone: blocks.1.attention 48.25 dB\n" in shown
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"]["limited_by"] == limits


def test_of_a_damaged_bundle_it_shows_the_package_and_says_so(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    fill(bundle, package=package)
    (bundle / "manifest.json").write_text("{}")
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "4: 2 conv, 1 gelu, 1 add" in shown
    assert "warning: " in shown
    assert "names no format" in shown
