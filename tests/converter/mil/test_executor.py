"""The executor on whole programs: ours, and those that others' conversions give."""

import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
import transformers
from coremltools.converters.mil import Builder as mb  # noqa: N813
from numpy.typing import NDArray
from torch import Tensor, nn

import converter.package.program
from converter.errors import PackageError, UnknownOperationError
from converter.mil.executor import PackageExecutor
from converter.package.program import load_program
from tests.support.mil_packages import save_program

ONES = np.ones((1, 4), np.float32)


def psnr(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    error = np.sqrt(np.square(reference - actual).mean())
    return float(20 * np.log10(np.abs(reference).max() / error)) if error else np.inf


# Arithmetic


def test_fp16_rounds_every_fp16_result_and_overflows(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        squared = mb.mul(x=half, y=half)
        finer = mb.add(x=half, y=np.float16(2**-10))
        return mb.cast(x=squared, dtype="fp32"), mb.cast(x=finer, dtype="fp32")

    x = np.float32([[300, 3, 4, 5]])
    package = save_program(tmp_path, {"x": x}, body)
    squared, finer = PackageExecutor(package, arithmetic="fp16").predict({"x": x}).values()
    assert squared.tolist() == [[np.inf, 9, 16, 25]]
    assert finer.tolist() == [[300, 3.0, 4, 5]]  # halfway: to even
    squared, finer = PackageExecutor(package).predict({"x": x}).values()
    assert squared.tolist() == [[90000, 9, 16, 25]]
    assert finer[0, 1] == 3 + 2**-10


def test_fp16_leaves_fp32_operations_alone(tmp_path: Path) -> None:
    package = save_program(tmp_path, {"x": ONES}, lambda x: mb.mul(x=x, y=np.float32(1 / 3)))
    (result,) = PackageExecutor(package, arithmetic="fp16").predict({"x": ONES}).values()
    assert result[0, 0] == np.float32(1 / 3)


def test_fp16_rounds_fp16_inputs(tmp_path: Path) -> None:
    x = np.array([[1 / 3]], np.float16)
    package = save_program(tmp_path, {"x": x}, lambda x: mb.identity(x=x))
    exact = np.array([[1 / 3]], np.float32)
    (result,) = PackageExecutor(package, arithmetic="fp16").predict({"x": exact}).values()
    assert result.dtype == np.float32
    assert result[0, 0] == np.float32(x[0, 0])


# What a caller sees


def test_observe_sees_every_result_in_order_and_nothing_outlives_its_use(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        first = mb.exp(x=x, name="first")
        second = mb.add(x=first, y=first, name="second")
        return mb.sqrt(x=second, name="third")

    package = save_program(tmp_path, {"x": ONES}, body)
    seen: list[tuple[str, float]] = []
    references: list[weakref.ref[Tensor]] = []
    dead: list[list[bool]] = []

    def observe(name: str, tensor: Tensor) -> None:
        seen.append((name, round(tensor[0, 0].item(), 3)))
        dead.append([reference() is None for reference in references])
        references.append(weakref.ref(tensor))

    (result,) = PackageExecutor(package).predict({"x": ONES}, observe=observe).values()
    assert seen == [("first", 2.718), ("second", 5.437), ("third", 2.332)]
    assert dead == [[], [False], [True, False]]
    assert result.shape == (1, 4)


def test_results_belong_to_the_caller(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)

    def body(x: Any) -> Any:
        return mb.identity(x=mb.const(val=weight)), mb.transpose(x=x, perm=[1, 0])

    executor = PackageExecutor(save_program(tmp_path, {"x": ONES}, body))
    constant, transposed = executor.predict({"x": ONES}).values()
    assert transposed.flags.c_contiguous
    constant[:] = 7
    constant, _ = executor.predict({"x": ONES}).values()
    assert constant.tolist() == weight.tolist()


@pytest.mark.parametrize(
    ("inputs", "function", "complaint"),
    [
        ({"y": ONES}, None, "takes x"),
        ({}, None, "given: nothing"),
        ({"x": ONES[0]}, None, r"x has to be fp32\(1, 4\)"),
        ({"x": np.ones((1, 5), np.float32)}, None, r"float32\(1, 5\)"),
        ({"x": ONES}, "other", "No function 'other'; this package has main"),
    ],
)
def test_wrong_calls_are_named(
    inputs: dict[str, NDArray[Any]], function: str | None, complaint: str, tmp_path: Path
) -> None:
    executor = PackageExecutor(save_program(tmp_path, {"x": ONES}, lambda x: mb.exp(x=x)))
    with pytest.raises(ValueError, match=complaint):
        executor.predict(inputs, function)


def test_an_unknown_operation_is_named_before_anything_runs(tmp_path: Path) -> None:
    image = np.zeros((1, 1, 2, 2), np.float32)
    package = save_program(
        tmp_path,
        {"x": image},
        lambda x: mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=2, scale_factor_width=2, name="odd_one"
        ),
    )
    with pytest.raises(UnknownOperationError, match=r"odd_one.*upsample_nearest_neighbor"):
        PackageExecutor(package)


# The package


def test_functions_share_weights_and_each_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    descriptor = ct.utils.MultiFunctionDescriptor()
    for length in (2, 3):
        folder = tmp_path / str(length)
        x = np.zeros((1, length, 64), np.float32)
        package = save_program(folder, {"x": x}, lambda x: mb.linear(x=x, weight=weight))
        descriptor.add_function(str(package), "main", f"length_{length}")
    descriptor.default_function_name = "length_3"
    merged = tmp_path / "merged.mlpackage"
    ct.utils.save_multifunction(descriptor, str(merged))

    reads: list[int] = []
    read = converter.package.program._read_blob

    def count(blob: converter.package.program.Blob, expected: int) -> NDArray[np.uint8]:
        reads.append(blob.offset)
        return read(blob, expected)

    monkeypatch.setattr(converter.package.program, "_read_blob", count)
    executor = PackageExecutor(merged)
    assert executor.functions == ("length_2", "length_3")
    assert executor.default_function == "length_3"
    assert len(reads) == len(set(reads))
    x = np.ones((1, 3, 64), np.float32)
    (long,) = executor.predict({"x": x}).values()
    (short,) = executor.predict({"x": x[:, :2]}, "length_2").values()
    np.testing.assert_allclose(long[0, 0], weight.sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(long[:, :2], short, rtol=1e-5, atol=1e-5)


def _linear_package(folder: Path) -> Path:
    weight = np.ones((64, 64), np.float32)
    x = np.zeros((1, 64), np.float32)
    return save_program(folder, {"x": x}, lambda x: mb.linear(x=x, weight=weight))


def _cut_weights(package: Path) -> None:
    (weights,) = package.rglob("weight.bin")
    weights.write_bytes(weights.read_bytes()[:-1000])


def _swap_weights(package: Path) -> None:
    (weights,) = package.rglob("weight.bin")
    weights.write_bytes(bytes(weights.stat().st_size))


def _break_specification(package: Path) -> None:
    (specification,) = package.rglob("*.mlmodel")
    specification.write_bytes(b"\xff" * 100)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_cut_weights, "weight.bin is cut short"),
        (_swap_weights, "weight.bin is damaged"),
        (lambda package: next(package.rglob("weight.bin")).unlink(), "weight.bin cannot be read"),
        (_break_specification, "is not a Core ML model"),
        (lambda package: next(package.rglob("*.mlmodel")).unlink(), "is incomplete"),
        (lambda package: (package / "Manifest.json").write_text("{}"), "Manifest.json is damaged"),
        (lambda package: (package / "Manifest.json").unlink(), "not an .mlpackage"),
    ],
)
def test_damage_is_named(damage: Callable[[Path], object], complaint: str, tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    damage(package)
    with pytest.raises(PackageError, match=complaint):
        PackageExecutor(package)


def test_a_neural_network_of_the_older_format_is_refused(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    model = ct.proto.Model_pb2.Model(specificationVersion=4)
    model.neuralNetwork.SetInParent()
    (specification,) = package.rglob("*.mlmodel")
    specification.write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="neuralNetwork; only ML programs"):
        load_program(package)


def test_a_program_is_read_without_coremltools_and_torch(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    script = (
        "import json, sys; from pathlib import Path;"
        "from converter.package.program import load_program;"
        f"functions = list(load_program(Path({str(package)!r})).functions);"
        "heavy = [name in sys.modules for name in ('coremltools', 'torch')];"
        "print(json.dumps([functions, heavy]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert json.loads(result.stdout) == [["main"], [False, False]]


# Conversions by others


class PlainBert(nn.Module):
    """transformers' BertModel, with a mask that coremltools can convert."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            attn_implementation=attention,
        )
        self.bert = transformers.BertModel(config, add_pooling_layer=False).eval()
        for parameter in self.bert.parameters():
            parameter.data = 0.2 * torch.randn_like(parameter)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        mask = mask.expand(1, 1, input_ids.shape[1], -1)
        states: Tensor = self.bert(input_ids, attention_mask=mask, return_dict=False)[0]
        return states


@pytest.mark.parametrize(
    ("target", "attention", "flexible", "precision", "least"),
    [
        (ct.target.iOS15, "eager", True, ct.precision.FLOAT32, 120),
        (ct.target.iOS16, "eager", False, ct.precision.FLOAT16, 70),
        (ct.target.iOS17, "eager", True, ct.precision.FLOAT16, 70),
        (ct.target.iOS18, "sdpa", True, ct.precision.FLOAT32, 120),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_plain_conversion_of_bert(
    target: ct.target,
    attention: str,
    flexible: bool,
    precision: ct.precision,
    least: float,
    tmp_path: Path,
) -> None:
    network = PlainBert(attention)
    example = (torch.zeros(1, 16, dtype=torch.long), torch.ones(1, 16, dtype=torch.long))
    size = ct.RangeDim(1, 64, default=16) if flexible else 16
    model = ct.convert(
        torch.jit.trace(network, example, check_trace=False),
        inputs=[ct.TensorType(name, (1, size), np.int32) for name in ("ids", "mask")],
        outputs=[ct.TensorType("states")],
        minimum_deployment_target=target,
        compute_precision=precision,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "bert.mlpackage"))
    executor = PackageExecutor(tmp_path / "bert.mlpackage")
    for length in (16, 5, 64) if flexible else (16,):
        ids = torch.randint(0, 100, (1, length), generator=torch.Generator().manual_seed(length))
        mask = torch.ones_like(ids)
        mask[:, length // 2 :] = 0
        with torch.inference_mode():
            expected = network(ids, mask).numpy()
        states = executor.predict({"ids": ids.numpy(), "mask": mask.numpy()})["states"]
        assert psnr(expected, states) > least


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
    stored = np.array([[1 / 3, 2]], np.float16)
    package = save_program(
        tmp_path,
        {"x": ONES[:, :2]},
        lambda x: mb.add(x=x, y=mb.constexpr_cast(source_val=stored, output_dtype="fp32")),
    )
    (result,) = PackageExecutor(package).predict({"x": ONES[:, :2]}).values()
    assert result.tolist() == (1 + stored.astype(np.float32)).tolist()
