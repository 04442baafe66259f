"""Files that change after a bundle was opened: refused if still to be read, else harmless."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter.bundle.opening import Bundle, open_bundle
from converter.errors import BundleError
from converter.fidelity.golden import Golden
from converter.runtime.coreml import load_coreml_runtime
from converter.runtime.loading import load_runtime
from converter.runtime.protocol import RuntimeChoice
from tests.support.bundles import build_small, flip_in_place

STAND_IN = "tests.support.coreml_stand_in"
TABLE = "embeddings.npy"
WEIGHTS = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
PROGRAM = "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small(tmp_path_factory.mktemp("b") / "small", embedding="host").path


@pytest.fixture
def opened(built: Path, tmp_path: Path) -> Bundle:
    """A bundle of one's own with the table on the host, opened and verified."""
    shutil.copytree(built, tmp_path / "b")
    return open_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", ["mil", "torch"])
def test_what_was_read_is_not_looked_up_again(opened: Bundle, name: RuntimeChoice) -> None:
    runtime = load_runtime(opened, runtime=name, threads=1)
    window = np.arange(5, 65, dtype=np.int32)
    (before,) = runtime.predict([window])
    for file in opened.manifest.files:
        flip_in_place(opened.path / file)
    (after,) = runtime.predict([window])
    np.testing.assert_array_equal(after, before)
    assert opened.tokenizer().encode("ACGT").ids.tolist()


@pytest.mark.parametrize("runtime", ["mil", "torch"])
@pytest.mark.parametrize("name", [TABLE, WEIGHTS, PROGRAM])
def test_what_changes_before_it_is_read_is_refused(
    opened: Bundle, name: str, runtime: RuntimeChoice
) -> None:
    flip_in_place(opened.path / name)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        load_runtime(opened, runtime=runtime, threads=1)


def test_what_changes_while_a_library_reads_it_is_refused(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import converter.runtime.mil as mil

    real = mil.PackageExecutor

    def changed_meanwhile(package: Path) -> mil.PackageExecutor:
        executor = real(package)
        flip_in_place(opened.path / WEIGHTS)
        return executor

    monkeypatch.setattr(mil, "PackageExecutor", changed_meanwhile)
    with pytest.raises(BundleError, match=f"{WEIGHTS} was altered"):
        load_runtime(opened, runtime="mil", threads=1)


def test_golden_windows_that_changed_are_refused(opened: Bundle) -> None:
    flip_in_place(opened.path / "golden.npz")
    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        Golden.load(opened.golden(), 3)


def test_core_ml_gets_nothing_that_changed(
    opened: Bundle, tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave()
    flip_in_place(opened.path / WEIGHTS)
    with pytest.raises(BundleError, match=f"{WEIGHTS} was altered"):
        load_coreml_runtime(opened, library=STAND_IN, cache=tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_table_of_another_shape_is_damage(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(built)
    for array in (np.zeros((400, 64)), np.zeros((399, 64), np.float16), np.zeros(3, np.float16)):
        np.save(tmp_path / "table.npy", array)
        content = (tmp_path / "table.npy").read_bytes()
        monkeypatch.setattr("converter.bundle.opening._read_file", lambda *_, c=content: c)
        with pytest.raises(BundleError, match="no table"):
            _ = bundle.interface
