"""What is kept beside bundles and compiled models, spoiled: no record, and nothing worse."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from converter.errors import GenaError
from converter.runtime.check_records import read_record, write_record
from converter.runtime.compiled_models import compiled_package
from converter.runtime.coreml_library import System
from converter.runtime.device_check import DeviceCheck
from converter.runtime.protocol import RuntimeUnavailableError
from converter.runtime.tuned_choice import choice_file, read_choice, write_choice
from tests.support import coreml_stand_in

UNITS = "CPU_AND_NE"
MAC = System("Mac16,1, Apple M4", "24F74", (15, 5))
CHECK = DeviceCheck(UNITS, "expected", "72.3 dB", 72.3, 1.0, {"512": 2.5}, {"512": {"CPU": 3}})

Spoil = Callable[[Path], Any]


def holds(content: str) -> Spoil:
    return lambda file: file.write_text(content)


def says(*keys: str, value: Any) -> Spoil:
    """One value of the record is another."""

    def spoil(file: Path) -> None:
        record = within = json.loads(file.read_text())
        for key in keys[:-1]:
            within = within[key]
        within[keys[-1]] = value
        file.write_text(json.dumps(record))

    return spoil


def is_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def is_endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def is_huge(file: Path) -> None:
    os.truncate(file, 2**40)


def is_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


ANY: dict[str, Spoil] = {
    "deep lists": holds("[" * 10**5 + "]" * 10**5),
    "deep objects": holds('{"a":' * 10**5 + "1" + "}" * 10**5),
    "half": holds('{"check": {"compute'),
    "nothing": holds(""),
    "a list": holds("[]"),
    "a pipe": is_a_pipe,
    "without end": is_endless,
    "huge": is_huge,
    "a folder": is_a_folder,
}
RECORDS: dict[str, Spoil] = {
    "no outcome": says("check", "outcome", value="expecteD"),
    "a list for an outcome": says("check", "outcome", value=[]),
    "others' units": says("check", "compute_units", value="CPU_ONLY"),
    "no figure": says("check", "psnr_db", value="72"),
    "an infinite figure": says("check", "worst_cosine", value=float("inf")),
    "times of another kind": says("check", "milliseconds", value=[1.0]),
    "no sentence": says("check", "detail", value=None),
    "no text": says("check", "detail", value=7),
    "a time beyond all": says("time", value=10**400),
    "no time": says("time", value=True),
    "another system": says("system", value=[]),
}


@contextmanager
def bounded(seconds: int = 10) -> Iterator[None]:
    """Where it would wait for ever, it fails."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    write_record(tmp_path / "model.mlmodelc", CHECK, MAC)
    return tmp_path / "model.mlmodelc"


def test_a_record_is_read_as_it_was_written(compiled: Path) -> None:
    assert read_record(compiled, UNITS, MAC) == CHECK


@pytest.mark.parametrize("spoil", [*ANY.values(), *RECORDS.values()], ids=[*ANY, *RECORDS])
def test_a_spoiled_record_is_none(compiled: Path, spoil: Spoil) -> None:
    spoil(compiled.with_name(f"{UNITS}.json"))
    with bounded():
        assert read_record(compiled, UNITS, MAC) is None
        write_record(compiled, CHECK, MAC)


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    (tmp_path / "b").mkdir()
    return SimpleNamespace(path=tmp_path / "b", manifest=SimpleNamespace(fingerprint="0" * 16))


@pytest.mark.parametrize(
    "spoil",
    [
        *ANY.values(),
        says("Mac16,1, Apple M4, macOS build 24F74", "compute_units", value="CPU_AND_NF"),
        says("Mac16,1, Apple M4, macOS build 24F74", "compute_units", value=[]),
        says("Mac16,1, Apple M4, macOS build 24F74", "fingerprint", value=7),
    ],
    ids=[*ANY, "no units", "a list for units", "another bundle"],
)
def test_a_spoiled_choice_is_none(bundle: Any, spoil: Spoil) -> None:
    write_choice(bundle, MAC, "CPU_ONLY", [])
    assert read_choice(bundle, MAC) == "CPU_ONLY"
    spoil(choice_file(bundle))
    with bounded():
        assert read_choice(bundle, MAC) is None


def test_a_choice_that_cannot_be_kept_is_a_sentence(bundle: Any) -> None:
    choice_file(bundle).mkdir()
    with pytest.raises(GenaError, match=r"b\.tune\.json cannot be written .*CPU_ONLY was chosen"):
        write_choice(bundle, MAC, "CPU_ONLY", [])


@pytest.mark.parametrize("make", [os.mkdir, lambda path: Path(path).symlink_to("nowhere")])
def test_a_cache_that_cannot_be_written_is_a_sentence(
    bundle: Any, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    (tmp_path / "cache").mkdir()
    make(tmp_path / "cache" / f"{bundle.manifest.fingerprint}.lock")
    with pytest.raises(RuntimeUnavailableError, match="cache, where nothing can be written"):
        compiled_package(bundle, coreml_stand_in, tmp_path / "cache")
