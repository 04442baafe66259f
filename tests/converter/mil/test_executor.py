"""The executor on whole programs: ours, and those that others' conversions give."""

import weakref
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813
from numpy.typing import NDArray
from torch import Tensor, nn

import converter.package.program
from converter.errors import PackageError, UnknownOperationError
from converter.mil.executor import PackageExecutor
from converter.package.weight_file import Blob
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


def norm_in_halves(x: NDArray[Any], gamma: NDArray[Any], beta: NDArray[Any]) -> NDArray[Any]:
    """NumPy rounds each result of float16 by itself; sums are left to float32."""
    mean = x.astype(np.float32).mean(1, keepdims=True).astype(np.float16)
    centred = x - mean
    squares = (centred * centred).astype(np.float32).mean(1, keepdims=True).astype(np.float16)
    inverse = (1 / np.sqrt(squares.astype(np.float32))).astype(np.float16)
    return centred * inverse * gamma[:, None, None] + beta[:, None, None]


@pytest.mark.parametrize("largest", [1.0, 100.0, 400.0])
def test_inside_a_norm_squares_may_overflow_and_a_subnormal_epsilon_is_nothing(
    largest: float, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(1, 32, 1, 8)).astype(np.float16)
    x[0, 3] = largest
    gamma, beta = (draws.normal(size=32).astype(np.float16) for _ in range(2))

    def body(x: Any) -> Any:
        norm = mb.layer_norm(x=x, axes=[1], gamma=gamma, beta=beta, epsilon=np.float16(2**-24))
        return mb.cast(x=norm, dtype="fp32")

    package = save_program(tmp_path, {"x": x}, body)
    exact = PackageExecutor(package, arithmetic="fp16")
    inputs = {"x": x.astype(np.float32)}
    (rounded,) = exact.with_arithmetic("fp16-norms").predict(inputs).values()
    with np.errstate(over="ignore"):
        assert np.array_equal(rounded, norm_in_halves(x, gamma, beta).astype(np.float32))
    (usual,) = exact.predict(inputs).values()
    assert (psnr(usual, rounded) > 50) == (largest < 255)


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
    read = converter.package.program.read_blob

    def count(blob: Blob, expected: int) -> bytes:
        reads.append(blob.offset)
        return read(blob, expected)

    monkeypatch.setattr(converter.package.program, "read_blob", count)
    executor = PackageExecutor(merged)
    assert executor.functions == ("length_2", "length_3")
    assert executor.default_function == "length_3"
    assert len(reads) == len(set(reads))
    x = np.ones((1, 3, 64), np.float32)
    (long,) = executor.predict({"x": x}).values()
    (short,) = executor.predict({"x": x[:, :2]}, "length_2").values()
    np.testing.assert_allclose(long[0, 0], weight.sum(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(long[:, :2], short, rtol=1e-5, atol=1e-5)


def test_damaged_weights_are_found_before_anything_runs(tmp_path: Path) -> None:
    weight = np.ones((64, 64), np.float32)
    x = np.zeros((1, 64), np.float32)
    package = save_program(tmp_path, {"x": x}, lambda x: mb.linear(x=x, weight=weight))
    (weights,) = package.rglob("weight.bin")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(PackageError, match=r"weight.bin is cut short"):
        PackageExecutor(package)


# Conversions by others


class PlainBert(nn.Module):
    """transformers' BertModel, with a mask that coremltools can convert."""

    def __init__(self, attention: str) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            attn_implementation=attention,
        )
        self.bert = BertModel(config, add_pooling_layer=False).eval()
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
