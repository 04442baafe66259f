"""The torch runtime: proven as it is loaded, and refused by name where it cannot be."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.bundle.manifest import GOLDEN, write_manifest
from converter.bundle.opening import Bundle, open_bundle
from converter.errors import PredictionError
from converter.fidelity.gates import FP32_ARITHMETIC, compare
from converter.fidelity.golden import Golden
from converter.runtime.loading import load_runtime
from converter.runtime.mil import MilRuntime
from converter.runtime.protocol import RuntimeUnavailableError
from converter.runtime.torch_runtime import TorchRuntime, cpu_has_bf16
from tests.support.bundles import build_small


@pytest.fixture(scope="module", params=["graph", "host"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_small(tmp_path_factory.mktemp("b") / "small", embedding=request.param)


@pytest.fixture(scope="module")
def runtime(bundle: Bundle) -> TorchRuntime:
    return TorchRuntime(bundle, threads=1)


def window(n: int) -> NDArray[np.int32]:
    ids = np.random.default_rng(n).integers(5, 400, n, dtype=np.int32)
    ids[0], ids[-1] = 1, 2
    return ids


def test_off_macos_it_is_what_auto_takes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    chosen = load_runtime(bundle, threads=1)
    assert (chosen.name, chosen.compute, chosen.lengths) == ("torch", "fp32", ())
    assert chosen.batch_tokens > 512 // 2


def test_windows_of_any_length_and_number_get_the_packages_features(
    bundle: Bundle, runtime: TorchRuntime
) -> None:
    mil = MilRuntime(bundle, threads=1)
    windows = [window(n) for n in (2, 3, 4, 127, 128, 129, 511, 512, 3, 3)]
    for batch in (windows, windows[:1], [windows[7]]):
        for expected, found in zip(mil.predict(batch), runtime.predict(batch), strict=True):
            assert found.shape == expected.shape
            assert compare(expected, found).psnr >= 100


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (window(5).astype(np.int64), "int64"),
        (window(5)[None], "int32 .1, 5."),
        (window(1), "1 ids"),
        (window(513), "513 ids"),
        (np.array([1, 400, 2], np.int32), "vocabulary of 400"),
        (np.array([1, -1, 2], np.int32), "vocabulary"),
        (np.array([1, 3, 2], np.int32), "padding"),
    ],
)
def test_what_is_no_window_is_refused(
    runtime: TorchRuntime, ids: NDArray[np.int32], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runtime.predict([window(5), ids])


def test_features_that_are_not_finite_are_an_error(
    runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = np.zeros((5, 64), np.float32)
    bad[3, 3] = np.nan
    monkeypatch.setattr(runtime._encoder, "predict", lambda *_: [np.zeros_like(bad), bad])
    with pytest.raises(PredictionError, match="finite"):
        runtime.predict([window(5), window(5)])


def rewritten(bundle: Bundle, folder: Path, decibels: float | None = None) -> Bundle:
    """A copy with a new manifest, in which the executed package has this figure."""
    if folder != bundle.path:
        shutil.copytree(bundle.path, folder)
    manifest = bundle.manifest
    gate = {"gate": FP32_ARITHMETIC.name, "verdict": "expected", "psnr_db": decibels}
    write_manifest(
        folder,
        model=manifest.model,
        commit=None,
        checkpoint_sha256=manifest.checkpoint_sha256,
        config=manifest.config,
        left_out=(),
        functions={int(length): name for length, name in manifest.functions.items()},
        options=manifest.options,
        precision=manifest.precision,
        fidelity={**manifest.fidelity, "gates": [gate]},
        versions={},
    )
    return open_bundle(folder)


def test_it_has_to_be_as_good_as_the_executed_package(bundle: Bundle, tmp_path: Path) -> None:
    found = TorchRuntime(bundle).device_checks[0]["psnr_db"]
    TorchRuntime(rewritten(bundle, tmp_path / "well", found + 0.9))
    for decibels in (found + 1.1, 140.0, None):
        better = rewritten(bundle, tmp_path / f"better {decibels}", decibels)
        with pytest.raises(RuntimeUnavailableError, match=r"right features.*GENA_RUNTIME=mil"):
            TorchRuntime(better)


def test_golden_windows_that_it_misses_are_an_error(bundle: Bundle, tmp_path: Path) -> None:
    other = rewritten(bundle, tmp_path / "other", 50.0)
    golden = Golden.load(bundle.golden(), 3)
    moved = replace(golden, reference=golden.reference[..., ::-1].copy())
    moved.save(other.path / GOLDEN)
    with pytest.raises(RuntimeUnavailableError, match="right features"):
        TorchRuntime(rewritten(other, other.path, 50.0))


def test_bf16_is_flagged_with_its_figure(bundle: Bundle) -> None:
    if not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bf16")
    runtime = load_runtime(bundle, runtime="torch", compute="bf16", threads=1)
    (check,) = runtime.device_checks or ()
    assert (runtime.compute, check["compute"], check["verdict"]) == ("bf16", "bf16", "flagged")
    assert 40 <= check["psnr_db"] < 70
    json.dumps(check)


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(SimpleNamespace(_is_mkldnn_bf16_supported=lambda: False), id="old"),
        pytest.param(SimpleNamespace(), id="of a Mac, where PyTorch has no oneDNN"),
    ],
)
def test_a_cpu_without_bf16_says_so(
    operations: SimpleNamespace, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", operations)
    with pytest.raises(RuntimeUnavailableError, match="GENA_COMPUTE=fp32"):
        load_runtime(bundle, runtime="torch", compute="bf16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "no CUDA device.*GENA_DEVICE"),
        ({"device": "mps"}, "no Metal device.*GENA_DEVICE"),
        ({"compute": "fp16", "device": "cpu"}, "GENA_COMPUTE"),
        ({"compute": "bf16", "runtime": "mil"}, "GENA_COMPUTE=bf16 is for the torch runtime"),
    ],
)
def test_what_this_machine_has_not_is_refused_by_name(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RuntimeUnavailableError, match=message):
        load_runtime(bundle, **{"runtime": "torch", **options})  # type: ignore[arg-type]
