"""Compressed weights as coremltools writes them, against its own expansion of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813
from torch import nn

from converter.mil.executor import PackageExecutor
from converter.package.reader import load_program
from tests.support.mil_packages import save_program


def _quantized(**options: Any) -> Callable[[Any], Any]:
    config = cto.OpLinearQuantizerConfig(weight_threshold=0, **options)
    return lambda model: cto.linear_quantize_weights(model, cto.OptimizationConfig(config))


def _palettized(**options: Any) -> Callable[[Any], Any]:
    config = cto.OpPalettizerConfig(mode="kmeans", weight_threshold=0, **options)
    return lambda model: cto.palettize_weights(model, cto.OptimizationConfig(config))


def _pruned(model: Any) -> Any:
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)
    return cto.prune_weights(model, cto.OptimizationConfig(config))


def _pruned_then(compress: str) -> Callable[[Any], Any]:
    def both(model: Any) -> Any:
        if compress == "palettized":
            config = cto.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=0)
            return cto.palettize_weights(
                _pruned(model), cto.OptimizationConfig(config), joint_compression=True
            )
        quantizer = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
        return cto.linear_quantize_weights(
            _pruned(model), cto.OptimizationConfig(quantizer), joint_compression=True
        )

    return both


IOS16, IOS18 = ct.target.iOS16, ct.target.iOS18
COMPRESSIONS: dict[str, tuple[ct.target, Callable[[Any], Any], str]] = {
    "int8": (IOS16, _quantized(mode="linear"), "constexpr_affine_dequantize"),
    "uint8": (IOS16, _quantized(mode="linear", dtype="uint8"), "constexpr_affine_dequantize"),
    "palette of 6 bits": (IOS16, _palettized(nbits=6), "constexpr_lut_to_dense"),
    "palette of 1 bit": (IOS16, _palettized(nbits=1), "constexpr_lut_to_dense"),
    "sparse": (IOS16, _pruned, "constexpr_sparse_to_dense"),
    "int8 blocks": (IOS18, _quantized(mode="linear"), "constexpr_blockwise_shift_scale"),
    "int4 blocks": (
        IOS18,
        _quantized(mode="linear", dtype="int4", granularity="per_block", block_size=8),
        "constexpr_blockwise_shift_scale",
    ),
    "palette of 3 bits": (IOS18, _palettized(nbits=3), "constexpr_lut_to_dense"),
    "palettes of 6 bits": (
        IOS18,
        _palettized(nbits=6, granularity="per_grouped_channel", group_size=8),
        "constexpr_lut_to_dense",
    ),
    "palette of vectors": (IOS18, _palettized(nbits=4, cluster_dim=4), "constexpr_lut_to_dense"),
    "sparse from iOS 18": (IOS18, _pruned, "constexpr_sparse_to_dense"),
    "sparse palette": (IOS18, _pruned_then("palettized"), "constexpr_lut_to_sparse"),
    "sparse int8": (IOS18, _pruned_then("quantized"), "constexpr_sparse_blockwise_shift_scale"),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_weights_equal_coremltools_own_expansion(name: str, tmp_path: Path) -> None:
    target, compress, operation = COMPRESSIONS[name]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(16, 32, 1), nn.GELU(), nn.Conv1d(32, 24, 1)).eval()
    model = ct.convert(
        torch.jit.trace(network, torch.zeros(1, 16, 8)),
        inputs=[ct.TensorType("x", (1, 16, 8))],
        outputs=[ct.TensorType("y")],
        minimum_deployment_target=target,
        skip_model_load=True,
    )
    compressed = compress(model)
    compressed.save(str(tmp_path / "compressed.mlpackage"))
    cto.decompress_weights(compressed).save(str(tmp_path / "expanded.mlpackage"))
    program = load_program(tmp_path / "compressed.mlpackage")
    assert operation in {op.type for op in program.functions["main"].operations}

    x = np.random.default_rng(0).normal(size=(1, 16, 8)).astype(np.float32)
    actual, expected = (
        PackageExecutor(tmp_path / f"{kind}.mlpackage").predict({"x": x})["y"]
        for kind in ("compressed", "expanded")
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_constexpr_cast(tmp_path: Path) -> None:
    x = np.ones((1, 2), np.float32)
    stored = np.array([[1 / 3, 2]], np.float16)
    package = save_program(
        tmp_path,
        {"x": x},
        lambda x: mb.add(x=x, y=mb.constexpr_cast(source_val=stored, output_dtype="fp32")),
    )
    (result,) = PackageExecutor(package).predict({"x": x}).values()
    assert result.tolist() == (1 + stored.astype(np.float32)).tolist()
