"""Against a stand-in for Core ML that computes with the package, and misbehaves when told to."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest

from converter.bundle.opening import Bundle, open_bundle
from converter.errors import BundleReplacedError
from converter.runtime.coreml import CoreMLRuntime, load_coreml_runtime
from converter.runtime.coreml_library import LoadedModel
from converter.runtime.mil import MilRuntime
from converter.runtime.protocol import Circumstances, RuntimeUnavailableError
from converter.runtime.tuned_choice import choice_file, write_choice
from tests.support import coreml_stand_in
from tests.support.bundles import build_small, fill


def log_of(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def load(bundle: Bundle, tmp_path: Path, units: str = "auto", **options: Any) -> CoreMLRuntime:
    return load_coreml_runtime(
        bundle,
        compute_units=units,
        library=coreml_stand_in.__name__,
        cache=tmp_path / "cache",
        circumstances=Circumstances(**options),
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
    ids = np.load(bundle.golden())["input_ids"][:1, :128]
    np.testing.assert_array_equal(runtime.predict_padded(ids), mil.predict_padded(ids))
    with pytest.raises(ValueError, match="int32"):
        runtime.predict_padded(ids.astype(np.int64))
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
    runtime = load(bundle, tmp_path, step_seconds=5 if misbehaviour == "hang" else 120)
    assert runtime.compute_units == "CPU_AND_GPU"
    assert outcomes(runtime) == [("CPU_AND_NE", outcome), ("CPU_AND_GPU", "expected")]
    assert words in runtime.device_checks[0]["detail"]


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
def test_what_is_compiled_of_another_bundle_is_not_kept_under_this_ones_name(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = shutil.copytree(bundle.path, tmp_path / "served")
    opened = open_bundle(served)
    real = coreml_stand_in.compile_package

    def compile_late(package: Path, compiled: Path) -> None:
        shutil.rmtree(served)
        fill(served, "new weights")
        real(package, compiled)

    monkeypatch.setattr(coreml_stand_in, "compile_package", compile_late)
    with pytest.raises(BundleReplacedError):
        load(opened, tmp_path)
    assert [each for each in (tmp_path / "cache").iterdir() if each.is_dir()] == []


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
    for odd in ("no JSON", "[" * 10**5):
        choice_file(bundle).write_text(odd)
        assert load(bundle, tmp_path).compute_units == "CPU_AND_NE"


@pytest.mark.usefixtures("behave")
@pytest.mark.parametrize("odd", ["", "[" * 10**5, '{"check": {}, "check": {}}'])
def test_a_record_of_a_check_that_cannot_be_read_is_none(
    bundle: Bundle, tmp_path: Path, odd: str
) -> None:
    load(bundle, tmp_path)
    (record,) = (tmp_path / "cache").glob("*/CPU_AND_NE.json")
    record.write_text(odd)
    assert outcomes(load(bundle, tmp_path)) == [("CPU_AND_NE", "expected")]


@pytest.mark.parametrize(("misbehaviour", "outcome"), [("hang", "hung"), ("crash", "crashed")])
def test_compute_units_that_hang_or_crash_are_left_alone_for_a_day(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    misbehaviour: str,
    outcome: str,
) -> None:
    load(bundle, tmp_path, "CPU_AND_GPU")
    behave(CPU_AND_NE=misbehaviour)
    load(bundle, tmp_path, step_seconds=5 if misbehaviour == "hang" else 120)
    before = len(log_of(tmp_path))
    behave()
    runtime = load(bundle, tmp_path)
    assert outcomes(runtime) == [("CPU_AND_NE", outcome), ("CPU_AND_GPU", "expected")]
    assert [line for line in log_of(tmp_path)[before:] if "CPU_AND_NE" in line] == []
    # Asked for by name they are tried, and so they are the next day.
    assert load(bundle, tmp_path, "CPU_AND_NE").compute_units == "CPU_AND_NE"
    behave(CPU_AND_NE="crash", os_build="25A1")
    load(bundle, tmp_path)
    behave(os_build="25A1")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert outcomes(load(bundle, tmp_path)) == [("CPU_AND_NE", "expected")]


def test_what_one_mac_found_is_not_believed_on_another(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    load(bundle, tmp_path)
    behave(machine="Mac14,2, Apple M2", CPU_AND_NE="garbage")
    assert load(bundle, tmp_path).compute_units == "CPU_AND_GPU"


@pytest.mark.usefixtures("behave")
def test_a_compiled_folder_that_is_not_whole_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    load(bundle, tmp_path)
    (folder,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    (folder / "model.mlmodelc").rename(tmp_path / "elsewhere")
    assert load(bundle, tmp_path).compute_units == "CPU_AND_NE"
    assert log_of(tmp_path).count("compile") == 2


@pytest.mark.usefixtures("behave")
def test_a_compiled_model_that_lost_a_file_is_made_again_at_once(
    bundle: Bundle, tmp_path: Path
) -> None:
    load(bundle, tmp_path)
    for weights in (tmp_path / "cache").rglob("weight.bin"):  # as programs that clean up do
        weights.unlink()
    runtime = load(bundle, tmp_path)
    assert outcomes(runtime) == [("CPU_AND_NE", "expected")]
    runtime.warm_up()
    assert log_of(tmp_path).count("compile") == 2


def test_units_that_the_process_died_of_while_it_loaded_are_checked_again(
    bundle: Bundle,
    tmp_path: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class DiedError(BaseException):
        """Nothing catches it."""

    def die(*_: object) -> None:
        raise DiedError

    load(bundle, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(coreml_stand_in, "load", die)
        with pytest.raises(DiedError):
            load(bundle, tmp_path)
    behave(CPU_AND_NE="crash")
    found = outcomes(load(bundle, tmp_path))
    assert found == [("CPU_AND_NE", "crashed"), ("CPU_AND_GPU", "expected")]


@pytest.mark.parametrize("when", ["it is loaded", "it predicts"])
def test_units_that_fail_after_their_check_make_room_for_others(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behave: Callable[..., None],
    when: str,
) -> None:
    behave()
    real = coreml_stand_in.load

    def fail(*_: object) -> NoReturn:
        raise RuntimeError('{\n    NSLocalizedDescription = "No memory";\n}')

    def refuse(compiled: Path, units: str, function: str | None) -> LoadedModel:
        if units != "CPU_AND_NE":  # in this process, and not in that of the check
            return real(compiled, units, function)
        return fail() if when == "it is loaded" else SimpleNamespace(predict=fail)

    monkeypatch.setattr(coreml_stand_in, "load", refuse)
    runtime = load(bundle, tmp_path)
    assert outcomes(runtime) == [("CPU_AND_NE", "failed"), ("CPU_AND_GPU", "expected")]
    assert '"No memory"' in runtime.device_checks[0]["detail"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("Error reading protobuf spec.\nBacktrace: ...", "(Error reading protobuf spec.)"),
        # So does coremltools on a Mac.
        (
            '{\n    NSLocalizedDescription = "Failed to parse the model.";\n'
            '    NSUnderlyingError = "Error Domain=com.apple.CoreML Code=110";\n}',
            '("Failed to parse the model."; NSUnderlyingError = '
            '"Error Domain=com.apple.CoreML Code=110")',
        ),
    ],
)
def test_a_package_that_does_not_compile_is_one_sentence(
    bundle: Bundle, tmp_path: Path, behave: Callable[..., None], raised: str, said: str
) -> None:
    behave(compile=raised)
    with pytest.raises(RuntimeUnavailableError) as caught:
        load(bundle, tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Backtrace" not in str(caught.value)


@pytest.mark.usefixtures("behave")
def test_frameworks_are_kept_out_of_children_and_of_nothing_else(
    bundle: Bundle, tmp_path: Path
) -> None:
    load(bundle, tmp_path)  # with a check in a child
    assert log_of(tmp_path).count("frameworks are kept out") == 1
    load(bundle, tmp_path, alone=True)
    assert log_of(tmp_path).count("frameworks are kept out") == 2
