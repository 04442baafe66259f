"""Against a stand-in for Core ML that computes with the package, and misbehaves when told to."""

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.bundle.opening import Bundle
from converter.runtime import coreml_library
from converter.runtime.coreml import CoreMLRuntime, load_coreml_runtime
from converter.runtime.coreml_library import CoreMLLibrary
from converter.runtime.device_check import check_device
from converter.runtime.loading import MilRuntime, RuntimeUnavailableError
from converter.runtime.tuned_choice import choice_file, write_choice
from converter.runtime.tuning import add_tune_command, run
from tests.support import coreml_stand_in
from tests.support.bundles import build_small
from tests.support.paths import ROOT

STAND_IN = "tests.support.coreml_stand_in"
UNITS = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_small(tmp_path_factory.mktemp("b") / "small")


@pytest.fixture
def bundle(built: Bundle) -> Bundle:
    choice_file(built).unlink(missing_ok=True)
    return built


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.fixture
def behave(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell the stand-in, here and in child processes, how to behave."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def tell(**behaviour: Any) -> None:
        behaviour |= {"log": str(tmp_path / "log"), "memory": str(memory)}
        monkeypatch.setenv("GENA_TEST_COREML", json.dumps(behaviour))

    tell()
    return tell


def log_of(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def load(bundle: Bundle, tmp_path: Path, units: str = "auto", **options: Any) -> CoreMLRuntime:
    return load_coreml_runtime(
        bundle, compute_units=units, library=STAND_IN, cache=tmp_path / "cache", **options
    )


def outcomes(runtime: CoreMLRuntime) -> list[tuple[str, str]]:
    return [(check["compute_units"], check["outcome"]) for check in runtime.device_checks]


@pytest.mark.usefixtures("behave")
def test_predictions_are_those_of_the_package(bundle: Bundle, tmp_path: Path) -> None:
    runtime = load(bundle, tmp_path)
    assert (runtime.name, runtime.compute_units) == ("coreml", "CPU_AND_NE")
    assert runtime.lengths == (128, 512)
    runtime.warm_up()
    mil = MilRuntime(bundle)
    ids = np.load(bundle.golden)["input_ids"][:1, :128]
    np.testing.assert_array_equal(runtime.predict(ids), mil.predict(ids))
    with pytest.raises(ValueError, match="int32"):
        runtime.predict(ids.astype(np.int64))
    # For /health: plain data.
    json.dumps(runtime.device_checks)


@pytest.mark.usefixtures("behave")
def test_the_embedding_on_the_host_works_alike(tmp_path: Path) -> None:
    bundle = build_small(tmp_path / "host", embedding="host")
    assert outcomes(load(bundle, tmp_path)) == [("CPU_AND_NE", "expected")]


@pytest.mark.parametrize(
    ("misbehaviour", "outcome", "words"),
    [
        ("crash", "crashed", "Segmentation fault"),
        ("hang", "hung", "no prediction in"),
        ("garbage", "refused", "dB"),
        ("nan", "refused", "NaN"),
        ("fail", "failed", "Unable to compute"),
    ],
)
def test_compute_units_that_misbehave_are_not_used(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    misbehaviour: str,
    outcome: str,
    words: str,
) -> None:
    # These pass, which is remembered: the short time below is for those that hang.
    load(bundle, tmp_path, "CPU_AND_GPU")
    behave(CPU_AND_NE=misbehaviour)
    runtime = load(bundle, tmp_path, timeout=4 if misbehaviour == "hang" else 120)
    assert runtime.compute_units == "CPU_AND_GPU"
    assert outcomes(runtime) == [("CPU_AND_NE", outcome), ("CPU_AND_GPU", "expected")]
    assert words in runtime.device_checks[0]["detail"]


def test_a_check_that_hangs_ends_with_the_process_that_asked(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave(CPU_AND_NE="hang")
    code = (
        "import sys; from pathlib import Path\n"
        "from converter.runtime.device_check import check_device\n"
        f"check_device(Path(sys.argv[1]), Path(sys.argv[2]), 'CPU_AND_NE', library={STAND_IN!r})"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle.path), str(bundle.package)], cwd=ROOT
    )
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and "hang" in log.read_text())
    hanging = int(log.read_text().split("hang ")[1])
    asking.kill()
    asking.wait()
    wait_until(lambda: not is_running(hanging))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # where init does not reap at once, it stays as a zombie
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_flagged_result_is_used_and_says_so(bundle: Bundle, behave: Callable[..., None]) -> None:
    behave(CPU_AND_NE="noise")
    check = check_device(bundle.path, bundle.package, "CPU_AND_NE", library=STAND_IN)
    assert check.psnr_db == pytest.approx(45, abs=1)
    # 45 dB passes only with every token's cosine at 0.999, which such noise does not give.
    assert check.worst_cosine is not None
    assert check.usable == (check.worst_cosine >= 0.999)


def test_units_that_are_asked_for_are_used_or_refused_and_never_replaced(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    assert load(bundle, tmp_path, "ALL").compute_units == "ALL"
    behave(CPU_ONLY="garbage")
    with pytest.raises(RuntimeUnavailableError, match="GENA_COMPUTE_UNITS=auto"):
        load(bundle, tmp_path, "CPU_ONLY")


def test_with_nothing_that_works_the_error_lists_what_was_found(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave(CPU_AND_NE="crash", CPU_AND_GPU="fail", CPU_ONLY="garbage")
    with pytest.raises(RuntimeUnavailableError) as caught:
        load(bundle, tmp_path)
    message = str(caught.value)
    for units in ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY"):
        assert units in message
    assert "ALL:" not in message
    assert "GENA_RUNTIME=mil" in message
    # The compiled model may be at fault: it is compiled again the next time.
    behave()
    load(bundle, tmp_path)
    assert log_of(tmp_path).count("compile") == 2


@pytest.mark.usefixtures("behave")
def test_the_compiled_model_and_the_passed_check_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    load(bundle, tmp_path)
    first = log_of(tmp_path)
    assert first.count("compile") == 1
    runtime = load(bundle, tmp_path)
    again = log_of(tmp_path)[len(first) :]
    # Loaded here, once a length; no child looked at it again.
    assert again == ["load CPU_AND_NE length_128", "load CPU_AND_NE length_512"]
    assert outcomes(runtime) == [("CPU_AND_NE", "expected")]


def test_a_new_build_of_macos_compiles_and_checks_again(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    load(bundle, tmp_path)
    behave(os_build="25A1", CPU_AND_NE="garbage")
    assert load(bundle, tmp_path).compute_units == "CPU_AND_GPU"
    assert log_of(tmp_path).count("compile") == 2
    folders = [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert folders == [f"{bundle.manifest.fingerprint}-25A1"]


@pytest.mark.usefixtures("behave")
def test_compiled_models_that_nobody_used_for_long_are_removed(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name, age in (("0123456789abcdef-24F74", 100), ("fedcba9876543210-24F74", 10)):
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True)
        os.utime(folder, (0, time.time() - age * 24 * 3600))
    load(bundle, tmp_path)
    names = {p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()}
    assert names == {"fedcba9876543210-24F74", f"{bundle.manifest.fingerprint}-24F74"}


def test_macos_that_is_too_old_is_told_what_to_do(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave(os_version=[14, 6])
    with pytest.raises(RuntimeUnavailableError, match=r"this is 14\.6.*--target macos14"):
        load(bundle, tmp_path)


def test_the_tuned_choice_is_used_on_this_machine_and_build_only(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    write_choice(bundle, coreml_stand_in.system(), "CPU_AND_GPU", [])
    assert load(bundle, tmp_path).compute_units == "CPU_AND_GPU"
    behave(os_build="25A1")
    assert load(bundle, tmp_path).compute_units == "CPU_AND_NE"
    behave()
    entries = json.loads(choice_file(bundle).read_text())
    next(iter(entries.values()))["fingerprint"] = "another"
    choice_file(bundle).write_text(json.dumps(entries))
    assert load(bundle, tmp_path).compute_units == "CPU_AND_NE"
    choice_file(bundle).write_text("no JSON")
    assert load(bundle, tmp_path).compute_units == "CPU_AND_NE"


def tune_arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_tune_command(parser.add_subparsers(), Path)
    return parser.parse_args(["tune", *argv])


def test_tune_measures_prints_and_chooses(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behave(CPU_AND_NE="slow", CPU_ONLY="garbage")
    arguments = tune_arguments(str(bundle.path), "--repeats", "3", "--json")
    assert run(arguments, STAND_IN, tmp_path / "cache") == 0
    (measured,) = json.loads(capsys.readouterr().out)
    # Not the slow one, not the wrong one, and never ALL.
    assert measured["choice"] == "CPU_AND_GPU"
    checks = {check["compute_units"]: check for check in measured["measurements"]}
    assert set(checks) == set(UNITS)
    assert checks["CPU_ONLY"]["outcome"] == "refused"
    assert checks["CPU_AND_NE"]["milliseconds"]["128"] >= 20
    assert checks["CPU_AND_NE"]["placement"]["512"] == {"NeuralEngine": 40, "CPU": 3}
    assert checks["ALL"]["placement"] == {}
    assert load(bundle, tmp_path).compute_units == "CPU_AND_GPU"


def test_the_table_has_a_line_for_each_bundle_units_and_length(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behave(CPU_AND_GPU="crash", CPU_ONLY="slow")
    arguments = tune_arguments(
        str(bundle.path), "--repeats", "2", "--compute-units", "CPU_AND_NE", "CPU_AND_GPU"
    )
    assert run(arguments, STAND_IN, tmp_path / "cache") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["bundle", "compute", "units"]
    assert [line.split()[1:3] for line in lines[1:3]] == [
        ["CPU_AND_NE", "128"],
        ["CPU_AND_NE", "512"],
    ]
    assert "chosen" in lines[1]
    assert "NeuralEngine 40, CPU 3" in lines[1]
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
    assert run(arguments, STAND_IN, tmp_path / "cache") == 1
    assert "nothing was chosen" in capsys.readouterr().out
    assert not choice_file(bundle).exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there on macOS")
def test_tune_off_macos_says_so(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="macOS"):
        run(tune_arguments(str(bundle.path)))


def test_the_stand_in_has_the_signatures_of_the_real_library() -> None:
    for name, function in inspect.getmembers(CoreMLLibrary, inspect.isfunction):
        if name.startswith("_"):
            continue
        wanted = list(inspect.signature(function).parameters)[1:]  # less self
        for module in (coreml_library, coreml_stand_in):
            assert list(inspect.signature(getattr(module, name)).parameters) == wanted


def test_coremltools_still_has_what_the_library_calls() -> None:
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.utils import compile_model

    assert {unit.name for unit in coremltools.ComputeUnit} >= set(UNITS)
    parameters = list(inspect.signature(coremltools.models.CompiledMLModel).parameters)
    assert parameters[:3] == ["path", "compute_units", "function_name"]
    assert list(inspect.signature(compile_model).parameters) == ["model", "destination_path"]
    load_plan = inspect.signature(MLComputePlan.load_from_path)
    assert list(load_plan.parameters) == ["path", "compute_units"]
    assert hasattr(MLComputePlan, "get_compute_device_usage_for_mlprogram_operation")
