"""The check in its child process, on a stand-in for Core ML that misbehaves when told to."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.bundle.opening import Bundle
from converter.conversion.convert import convert
from converter.options import BuildOptions
from converter.runtime.coreml import load_coreml_runtime
from converter.runtime.device_check import DeviceCheck, check_device
from tests.support import coreml_stand_in
from tests.support.paths import ROOT
from tests.support.scenarios import is_running, until
from tools.seeded_checkpoints import make_checkpoint

STAND_IN = coreml_stand_in.__name__


@pytest.mark.parametrize(
    ("misbehaviour", "timeout"),
    [
        pytest.param("hang", 300, id="waiting"),
        # No thread runs in it: only its own time limit is left, of each call of Core ML.
        pytest.param("stuck", 2, id="with the GIL"),
    ],
)
def test_a_check_that_hangs_ends_after_the_process_that_asked(
    misbehaviour: str, timeout: int, bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave(CPU_AND_NE=misbehaviour)
    code = (
        "import sys; from pathlib import Path\n"
        "from converter.runtime import device_check\n"
        # Who asks has patience: on a busy machine the check begins late.
        "run = device_check._run\n"
        "device_check._run = lambda command, _: run(command, 300)\n"
        "device_check.check_device(Path(sys.argv[1]), Path(sys.argv[2]), 'CPU_AND_NE',"
        f" library={STAND_IN!r}, timeout={timeout})"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle.path), str(bundle.package)], cwd=ROOT
    )
    log = tmp_path / "log"
    until(lambda: log.exists() and "hang" in log.read_text(), "the check hangs", 60)
    hanging = int(log.read_text().split("hang ")[1])
    asking.kill()
    asking.wait(60)
    until(lambda: not is_running(hanging), "its child ends too", 60)


def test_predictions_that_were_told_before_a_hang_count(
    bundle: Bundle, behave: Callable[..., None]
) -> None:
    check(bundle)  # whose results are remembered
    behave(CPU_AND_NE="placement")
    found = check_device(
        bundle.path, bundle.package, "CPU_AND_NE", library=STAND_IN, repeats=1, timeout=8
    )
    assert (found.outcome, found.usable, found.placement) == ("expected", True, {})
    assert set(found.milliseconds) == {"128", "512"}


@pytest.mark.usefixtures("behave")
def test_modules_of_the_users_folder_are_not_taken_for_ours(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "converter.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert check(bundle).outcome == "expected"


def check(bundle: Bundle) -> DeviceCheck:
    return check_device(bundle.path, bundle.package, "CPU_AND_NE", library=STAND_IN)


def test_a_bundle_whose_name_begins_with_a_dash(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behave()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    Path("--bundle").symlink_to(bundle.path)
    package = Path("--bundle") / bundle.package.relative_to(bundle.path)
    result = check_device(Path("--bundle"), package, "CPU_AND_NE", library=STAND_IN)
    assert result.outcome == "expected", result.detail


def worst_figures(bundle: Bundle) -> tuple[float, float]:
    """PSNR in dB and cosine of what the stand-in gives here, worked out by their definitions."""
    decibels, cosines = [], []
    with np.load(bundle.golden()) as golden:
        input_ids, reference = golden["input_ids"], golden["reference"].astype(np.float64)
    for length in (128, 512):
        model = coreml_stand_in.load(bundle.package, "CPU_AND_NE", f"length_{length}")
        for ids, truth in zip(input_ids, reference, strict=True):
            real = np.flatnonzero(ids != 3)
            if len(real) > length:
                continue
            found = model.predict({"input_ids": ids[None, :length]})["features"][0, real]
            error = np.sqrt(np.mean((found - truth[real]) ** 2))
            decibels.append(20 * np.log10(np.abs(truth[real]).max() / error))
            for row, true in zip(found.astype(np.float64), truth[real], strict=True):
                cosines.append(row @ true / np.sqrt((row @ row) * (true @ true)))
    assert len(decibels) == 4  # of 60, 300 and 512 tokens, only the first fits 128
    return min(decibels), min(cosines)


def test_a_flagged_result_is_used_and_says_so(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave(CPU_AND_NE="noise")
    decibels, cosine = worst_figures(bundle)
    assert 40 < decibels < 50
    assert cosine > 0.999
    found = check(bundle)
    assert (found.outcome, found.usable) == ("flagged", True)
    assert found.psnr_db == pytest.approx(decibels, abs=0.01)
    assert found.worst_cosine == pytest.approx(cosine, abs=1e-5)
    assert f"{decibels:.1f} dB" in found.detail

    runtime = load_coreml_runtime(bundle, library=STAND_IN, cache=tmp_path / "cache")
    assert runtime.compute_units == "CPU_AND_NE"
    assert [entry["outcome"] for entry in runtime.device_checks] == ["flagged"]


def test_one_token_that_points_elsewhere_is_refused(
    bundle: Bundle, behave: Callable[..., None]
) -> None:
    behave(CPU_AND_NE="turned")
    decibels, cosine = worst_figures(bundle)
    assert 40 < decibels < 50
    assert cosine < 0.999
    found = check(bundle)
    assert (found.outcome, found.usable) == ("refused", False)
    assert found.psnr_db == pytest.approx(decibels, abs=0.01)
    assert found.worst_cosine == pytest.approx(cosine, abs=1e-5)


@pytest.fixture(scope="module")
def palettized(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("palettized")
    checkpoint = make_checkpoint(folder / "checkpoint")
    options = BuildOptions(target="macos14", weights="palettized6")
    return convert(str(checkpoint), output=folder / "bundle", options=options)


def test_a_compressed_package_is_measured_by_its_own_figure(
    palettized: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    (own,) = [
        gate["psnr_db"] for gate in palettized.manifest.fidelity["gates"] if "fp16" in gate["gate"]
    ]
    assert own < 40  # the gate of an uncompressed one would refuse it
    found = check(palettized)
    assert (found.outcome, found.usable) == ("expected", True)
    assert found.psnr_db == pytest.approx(own, abs=1)
    runtime = load_coreml_runtime(palettized, library=STAND_IN, cache=tmp_path / "cache")
    assert runtime.compute_units == "CPU_AND_NE"
    behave(CPU_AND_NE="garbage")
    assert check(palettized).outcome == "refused"
