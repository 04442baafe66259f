"""modernGENA arranged for speed: the numbers of the executed package and of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.conversion.build import EVERYTHING, PackagePlan, build_package
from converter.errors import PackageError
from converter.fidelity.gates import compare
from converter.mil.executor import PackageExecutor
from converter.mil.packed_attention import Attention, Padding
from converter.mil.packed_encoder import PackedEncoder
from converter.network.neural_engine import Scales
from converter.options import BuildOptions, function_names
from converter.package.interface import PackageInterface
from converter.pooling import WindowPooling
from tests.support.bundles import CONFIG
from tests.support.moderngena import make_moderngena_reference, of_transformers

LENGTHS = (128, 512)
Built = tuple[Path, PackageInterface]
VARIANTS: dict[str, tuple[dict[str, Any], BuildOptions, PackagePlan]] = {
    "plain": ({"num_hidden_layers": 4}, BuildOptions(), PackagePlan()),
    "two thetas, chunks": (
        {"local_rope_theta": 1e3},
        BuildOptions(ffn_chunks=2),
        PackagePlan(scales=Scales(-3, 2, -2)),
    ),
    "fp32": ({}, BuildOptions(), PackagePlan(fp32_modules=EVERYTHING)),
    "mixed": (
        {},
        BuildOptions(),
        PackagePlan(fp32_modules=("embedding_stage", "blocks.0.attention")),
    ),
    "int8": ({}, BuildOptions(weights="int8"), PackagePlan()),
    "one local layer": ({"layer_types": ["sliding_attention"] * 2}, BuildOptions(), PackagePlan()),
}


def build(folder: Path, changes: dict[str, Any], options: BuildOptions, plan: PackagePlan) -> Built:
    reference = make_moderngena_reference(**changes)
    package = folder / "model.mlpackage"
    build_package(reference, options, plan, package, lengths=LENGTHS)
    return package, PackageInterface(reference.config, function_names(LENGTHS))


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("package"), *request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("plain"), *VARIANTS["plain"])


def windows(*lengths: int) -> list[NDArray[np.int32]]:
    generator = np.random.default_rng(0)
    return [np.array([1, *generator.integers(5, 400, n - 2), 2], np.int32) for n in lengths]


def executed(built: Built, window: NDArray[np.int32]) -> NDArray[np.float32]:
    path, interface = built
    padded = interface.padded(window)
    function = interface.function(padded.shape[1])
    outputs = PackageExecutor(path).predict(interface.inputs(padded), function)
    return interface.features(padded, outputs)[0, : len(window)]


def test_it_gives_what_the_executed_package_gives(built: Built) -> None:
    """Windows that attention sees whole, in a band, and in blocks; alike and unlike in length."""
    together = windows(3, 65, 66, 128, 300, 300, 512)
    encoder = PackedEncoder.of_package(*built)
    for window, found in zip(together, encoder.predict(together), strict=True):
        assert compare(executed(built, window), found).psnr >= 100


def test_what_is_pooled_is_pooled_of_the_executed_package(built: Built) -> None:
    lengths = (3, 65, 65, 300)
    together = windows(*lengths)
    whole = [executed(built, window) for window in together]
    encoder = PackedEncoder.of_package(*built)
    for how, first, end in (("mean", 1, -1), ("mean", 0, 1), ("max", 1, 0)):
        poolings = [WindowPooling(how, first, end if end > 0 else n + end) for n in lengths]
        for truth, found, pooling in zip(
            whole, encoder.predict(together, poolings), poolings, strict=True
        ):
            assert compare(pooling.of(truth), found).psnr >= 100


@pytest.mark.parametrize("n_tokens", [3, 64, 65, 129, 255, 256, 257, 511, 512])
def test_whatever_the_length_it_is_transformers_network(plain: Built, n_tokens: int) -> None:
    """A block at the end that is not full, one that is; fp16 weights are all that differs."""
    theirs = of_transformers(make_moderngena_reference(**VARIANTS["plain"][0]))
    (window,) = windows(n_tokens)
    (found,) = PackedEncoder.of_package(*plain).predict([window])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(window[None]).long()).last_hidden_state[0]
    assert compare(expected.numpy(), found).psnr >= 60


def test_padded_attention_as_on_a_gpu_gives_the_same(
    plain: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PackedEncoder.of_package(*plain)
    together = windows(3, 70, 129, 400)
    expected = encoder.predict(together)

    def attention_of_a_gpu(lengths: list[int]) -> Attention:
        return Attention(2, tuple(lengths), Padding.of(lengths, torch.device("cpu")))

    monkeypatch.setattr(encoder, "_attention", attention_of_a_gpu)
    monkeypatch.setattr(encoder, "_filled", lambda rows: rows)
    for truth, found in zip(expected, encoder.predict(together), strict=True):
        assert compare(truth, found).psnr >= 100


def test_in_bf16_it_is_near(plain: Built) -> None:
    together = windows(40, 300)
    exact = PackedEncoder.of_package(*plain).predict(together)
    coarse = PackedEncoder.of_package(*plain, compute=torch.bfloat16).predict(together)
    for truth, found in zip(exact, coarse, strict=True):
        assert 30 <= compare(truth, found).psnr <= 90


def test_a_row_hardly_depends_on_what_else_is_in_the_batch(plain: Built) -> None:
    encoder = PackedEncoder.of_package(*plain)
    (window,) = windows(141)
    (alone,) = encoder.predict([window])
    for company in (windows(2), windows(128, 300), windows(*[141] * 7)):
        for place in (0, len(company)):
            batch = [*company[:place], window, *company[place:]]
            found = encoder.predict(batch)[place]
            assert np.abs(found - alone).max() <= 1e-5 * np.abs(alone).max()


def test_a_package_of_the_other_family_is_refused(plain: Built) -> None:
    path, _ = plain
    other = PackageInterface(CONFIG, function_names(LENGTHS))
    with pytest.raises(PackageError, match="not laid out"):
        PackedEncoder.of_package(path, other)
