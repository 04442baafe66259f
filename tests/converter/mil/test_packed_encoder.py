"""The encoder arranged for speed: the numbers of the executed package, whatever it is built of."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.conversion.build import EVERYTHING, PackagePlan, build_package
from converter.errors import PackageError
from converter.fidelity.gates import compare
from converter.mil import onednn, packed_encoder
from converter.mil.executor import PackageExecutor
from converter.mil.packed_attention import Attention, Padding
from converter.mil.packed_encoder import PackedEncoder
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.neural_engine import re_author
from converter.network.gena_bert.reference import GenaEncoder
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from converter.package.interface import PackageInterface
from converter.pooling import WindowPooling, pooled
from tests.support.bundles import CONFIG

LENGTH = 128
Package = tuple[Path, PackageInterface]


def network(changes: dict[str, Any], *, trivial: str = "") -> GenaEncoder:
    """Seeded weights; norms are not the identity and biases not zero, but for the trivial."""
    torch.manual_seed(0)
    encoder = GenaEncoder(dataclasses.replace(CONFIG, **changes)).eval().requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        if parameter.ndim == 1 and not (trivial and name.endswith(trivial)):
            parameter.normal_(float(is_scale), 0.3)
        elif "_embeddings" in name:  # which are left as the memory was
            parameter.normal_()
    return encoder


def build(
    folder: Path,
    config: dict[str, Any],
    options: BuildOptions,
    plan: PackagePlan,
    trivial: str = "",
    length: int = LENGTH,
) -> Package:
    reference = network(config, trivial=trivial)
    package, table = folder / "model.mlpackage", None
    build_package(reference, options, plan, package, lengths=(length,))
    if options.embedding == "host":
        encoder = re_author(reference, length, options, plan.scales)
        table = encoder.host_table().detach().numpy().astype(np.float16)
    return package, PackageInterface(reference.config, {length: "main"}, table)


VARIANTS: dict[str, tuple[Any, ...]] = {
    "pre-LN": ({}, BuildOptions(), PackagePlan()),
    "pre-LN, last norm": ({"last_layer_norm": True}, BuildOptions(), PackagePlan()),
    "post-LN": ({"pre_layer_norm": False}, BuildOptions(), PackagePlan()),
    "pre-LN, no biases": ({}, BuildOptions(), PackagePlan(), "bias"),
    "post-LN, no biases": ({"pre_layer_norm": False}, BuildOptions(), PackagePlan(), "bias"),
    "scaled": ({}, BuildOptions(), PackagePlan(Scales(residual_log2=-3, value_log2=2))),
    "chunks": ({}, BuildOptions(ffn_chunks=4), PackagePlan()),
    "host": ({}, BuildOptions(embedding="host"), PackagePlan()),
    "fp32": ({}, BuildOptions(), PackagePlan(fp32_modules=EVERYTHING)),
    "mixed": (
        {},
        BuildOptions(),
        PackagePlan(fp32_modules=("embedding_stage", "blocks.0.attention")),
    ),
    "int8": ({}, BuildOptions(weights="int8"), PackagePlan()),
    "palettized": ({}, BuildOptions(weights="palettized6"), PackagePlan()),
    "macOS 14": ({}, BuildOptions(target="macos14"), PackagePlan()),
    "int8, macOS 14": ({}, BuildOptions(target="macos14", weights="int8"), PackagePlan()),
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(tmp_path_factory.mktemp("package"), *request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(tmp_path_factory.mktemp("plain"), *VARIANTS["pre-LN"])


def windows(*lengths: int) -> list[NDArray[np.int32]]:
    generator = np.random.default_rng(0)
    return [
        np.array([1, *generator.integers(5, CONFIG.vocab_size, n - 2), 2], np.int32)
        for n in lengths
    ]


def executed(package: Package, window: NDArray[np.int32]) -> NDArray[np.float32]:
    path, interface = package
    padded = interface.padded(window)
    outputs = PackageExecutor(path).predict(interface.inputs(padded))
    return interface.features(padded, outputs)[0, : len(window)]


def test_it_gives_what_the_executed_package_gives(package: Package) -> None:
    together = windows(3, 2, 128, 17, 17, 100, 17)
    encoder = PackedEncoder.of_package(*package)
    for window, found in zip(together, encoder.predict(together), strict=True):
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert compare(executed(package, window), found).psnr >= 100


def test_what_is_pooled_is_pooled_of_the_executed_package(package: Package) -> None:
    """Whatever is asked of the windows that go together."""
    lengths = (3, 2, 100, 17, 17, 100, 17, 40)
    together = windows(*lengths)
    whole = [executed(package, window) for window in together]
    encoder = PackedEncoder.of_package(*package)
    means = [WindowPooling("mean", n // 3, n) for n in lengths]
    single = [WindowPooling("mean", n // 2, n // 2 + 1) for n in lengths]
    highest = [WindowPooling("max", 1, n) for n in lengths]
    rows = [None] * len(lengths)
    mixed = [means[0], None, *means[2:5], single[5], *means[6:]]
    for poolings in (means, single, highest, rows, mixed, [*highest[:4], *single[4:6], None, None]):
        found = encoder.predict(together, poolings)
        for truth, vector, pooling in zip(whole, found, poolings, strict=True):
            assert vector.dtype == np.float32
            assert vector.flags.c_contiguous
            assert compare(pooled(truth, pooling), vector).psnr >= 100


def test_long_windows_are_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By oneDNN's attention, wherever they lie, and whatever is wanted of them."""
    read: set[tuple[int, int]] = set()
    attend = onednn.attend

    def watched(x: Tensor, heads: int, n: int) -> Tensor:
        read.add((n, len(x)))
        return attend(x, heads, n)

    monkeypatch.setattr(onednn, "attend", watched)
    monkeypatch.setattr(packed_encoder, "deals_out", lambda _heads: True)
    package = build(tmp_path, {}, BuildOptions(), PackagePlan(), length=512)
    together = windows(385, 512, 420, 40, 425, 420, 511)
    whole = [executed(package, window) for window in together]
    encoder = PackedEncoder.of_package(*package)
    means = [WindowPooling("mean", 1, len(window)) for window in together]
    for batch in (slice(0, 7), slice(2, 3), slice(0, 6), slice(4, 6)):
        alike = zip(whole[batch], encoder.predict(together[batch]), strict=True)
        assert all(compare(truth, found).psnr >= 100 for truth, found in alike)
        vectors = encoder.predict(together[batch], means[batch])
        for truth, vector, mean in zip(whole[batch], vectors, means[batch], strict=True):
            assert compare(pooled(truth, mean), vector).psnr >= 100
    # Of one number of rows in every company; where there is no oneDNN, by PyTorch.
    assert not onednn.has_onednn() or read == {
        (385, 392),
        (420, 424),
        (425, 432),
        (511, 512),
        (512, 512),
    }


@pytest.mark.parametrize("how", ["mean", "max"])
def test_what_is_pooled_in_bf16_is_pooled_in_float32(plain: Package, how: Any) -> None:
    encoder = PackedEncoder.of_package(*plain, compute=torch.bfloat16)
    (window,) = windows(128)
    pooling = WindowPooling(how, 1, 127)
    (rows,), (vector,) = encoder.predict([window]), encoder.predict([window], [pooling])
    np.testing.assert_allclose(vector, pooling.of(rows), atol=1e-6)


def test_of_the_last_layer_only_what_is_wanted_is_computed(
    plain: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    plus = packed_encoder._Product.plus

    def counting(product: Any, x: Tensor, stream: Tensor) -> Tensor:
        counted.append(len(x))
        return plus(product, x, stream)

    monkeypatch.setattr(packed_encoder._Product, "plus", counting)
    encoder = PackedEncoder.of_package(*plain)
    for first, end, last_layer in ((1, 127, [128, 4]), (0, 1, [4, 4])):
        counted.clear()
        encoder.predict(windows(128), [WindowPooling("mean", first, end)])
        assert counted == [128, 128, *last_layer]


def test_without_packed_products_it_gives_the_same(
    plain: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_encoder, "has_onednn", lambda: False)
    together = windows(3, 50, 128)
    encoder = PackedEncoder.of_package(*plain)
    for window, found in zip(together, encoder.predict(together), strict=True):
        assert compare(executed(plain, window), found).psnr >= 100


def test_padded_attention_as_on_a_gpu_gives_the_same(
    plain: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PackedEncoder.of_package(*plain)
    monkeypatch.setattr(encoder, "_attention", attention_of_a_gpu)
    monkeypatch.setattr(encoder, "_filled", lambda rows: rows)
    together = windows(3, 50, 2, 128)
    for window, found in zip(together, encoder.predict(together), strict=True):
        assert compare(executed(plain, window), found).psnr >= 100


def attention_of_a_gpu(lengths: Sequence[int]) -> Attention:
    padding = Padding.of(lengths, torch.device("cpu"))
    return Attention(CONFIG.num_attention_heads, tuple(lengths), padding)


def test_a_row_hardly_depends_on_what_else_is_in_the_batch(plain: Package) -> None:
    encoder = PackedEncoder.of_package(*plain)
    (window,) = windows(41)
    (alone,) = encoder.predict([window])
    for company in (windows(2), windows(128, 128), windows(*range(2, 65)), windows(*[41] * 30)):
        for place in (0, len(company)):
            batch = [*company[:place], window, *company[place:]]
            found = encoder.predict(batch)[place]
            assert np.abs(found - alone).max() <= 1e-5 * np.abs(alone).max()


def test_nor_does_a_vector(plain: Package) -> None:
    encoder = PackedEncoder.of_package(*plain)
    (window,), pooling = windows(41), WindowPooling("mean", 1, 40)
    (alone,) = encoder.predict([window], [pooling])
    for company in (windows(2), windows(128, 128), windows(*[41] * 30)):
        for theirs in (None, WindowPooling("mean", 0, 2), WindowPooling("max", 0, 2)):
            found = encoder.predict([*company, window], [*[theirs] * len(company), pooling])[-1]
            assert np.abs(found - alone).max() <= 1e-5 * np.abs(alone).max()


def test_products_are_of_few_sizes(plain: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is made for each one, which takes time; so do rows that are added."""
    encoder = PackedEncoder.of_package(*plain)
    computed: list[int] = []

    def encode(x: Tensor, *_how: object) -> Tensor:
        computed.append(len(x))
        return x

    monkeypatch.setattr(encoder, "_encode", encode)
    for rows in range(2, 513):
        together = [np.full(len(part), 7, np.int32) for part in np.array_split(range(rows), 5)]
        assert list(map(len, encoder.predict(together))) == list(map(len, together))
    assert all(size % 4 == 0 for size in computed)
    assert all(size % 8 == 0 for size in computed if size > 32)
    assert all(0 <= size - rows < 8 for rows, size in zip(range(2, 513), computed, strict=True))


@pytest.mark.parametrize("compute", [torch.bfloat16, torch.float16])
def test_half_the_bits_lose_what_they_lose(plain: Package, compute: torch.dtype) -> None:
    together = windows(3, 50, 128)
    encoder = PackedEncoder.of_package(*plain, compute=compute)
    for window, found in zip(together, encoder.predict(together), strict=True):
        assert found.dtype == np.float32
        assert 35 <= compare(executed(plain, window), found).psnr < 100


def test_a_package_that_is_laid_out_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    published = build(tmp_path, {}, BuildOptions(layout="published"), PackagePlan())
    with pytest.raises(PackageError, match=r"not laid out.*GENA_RUNTIME=mil"):
        PackedEncoder.of_package(*published)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 1}, "not laid out"),
        ({"num_hidden_layers": 3}, "not laid out"),
        ({"last_layer_norm": True}, "not laid out"),
        ({"pre_layer_norm": False}, "not laid out"),
        ({"intermediate_size": 64}, "other shapes"),
        ({"vocab_size": 401}, "other shapes"),
    ],
)
def test_another_configuration_is_noticed(
    plain: Package, change: dict[str, Any], message: str
) -> None:
    path, interface = plain
    config: GenaBertConfig = dataclasses.replace(interface.config, **change)
    with pytest.raises(PackageError, match=message):
        PackedEncoder.of_package(path, PackageInterface(config, {LENGTH: "main"}))
