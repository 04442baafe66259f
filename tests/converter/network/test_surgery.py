"""Each piece of surgery is exact, on random input."""

import math

import pytest
import torch
from torch import Tensor, nn

from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.neural_engine import fold_token_type
from converter.network.gena_bert.reference import Embeddings
from converter.network.surgery import (
    SMALLEST_FP16,
    convolution,
    effective_eps,
    embedding_scale,
    fold_norm,
    fold_query_scale,
    scale_residual_write,
    scale_values,
)
from tools.seeded_checkpoints import config_dict


def linear(seed: int = 0, out_features: int = 24, in_features: int = 16) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(in_features, out_features)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(out_features, in_features, generator=generator))
        layer.bias.copy_(torch.randn(out_features, generator=generator))
    return layer.requires_grad_(False)


def norm(scale: Tensor, seed: int = 1) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(scale))
    with torch.no_grad():
        layer.weight.copy_(scale)
        layer.bias.copy_(torch.randn(len(scale), generator=torch.Generator().manual_seed(seed)))
    return layer.requires_grad_(False)


def rows(width: int = 16) -> Tensor:
    return torch.randn(40, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "scale",
    [
        torch.linspace(-3, 3, 16),
        torch.zeros(16),
        torch.cat([torch.full((8,), 1e-30), torch.full((8,), 50.0)]),
    ],
    ids=["through zero", "all zero", "near zero and large"],
)
def test_fold_norm_is_exact(scale: Tensor) -> None:
    layer, before = linear(), norm(scale)
    weight, bias = fold_norm(layer, before)
    plain = nn.functional.layer_norm(rows().double(), (16,))
    expected = layer.double()(before.double()(rows().double()))
    found = plain @ weight.double().T + bias.double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(weight).all()


def test_fold_norm_of_no_norm_changes_nothing() -> None:
    layer = linear()
    weight, bias = fold_norm(layer, None)
    assert torch.equal(weight, layer.weight)
    assert torch.equal(bias, layer.bias)


def test_fold_query_scale_divides_the_scores() -> None:
    layer, keys = linear(), rows(24)
    weight, bias = fold_query_scale((layer.weight, layer.bias), head_size=24)
    expected = layer(rows()) @ keys.T / math.sqrt(24)
    torch.testing.assert_close((rows() @ weight.T + bias) @ keys.T, expected)


@pytest.mark.parametrize("exponent", [-3, 0, 4, 6])
def test_scale_values_cancels_to_the_last_bit(exponent: int) -> None:
    value, output = linear(1), linear(2, out_features=16, in_features=24)
    (value_weight, value_bias), (output_weight, output_bias) = scale_values(
        (value.weight, value.bias), (output.weight, output.bias), 2.0**exponent
    )
    expected = output(value(rows()))
    inner = nn.functional.linear(rows(), value_weight, value_bias)
    assert torch.equal(inner, value(rows()) * 2.0**exponent)
    assert torch.equal(nn.functional.linear(inner, output_weight, output_bias), expected)


def test_scale_residual_write_scales_what_is_added() -> None:
    layer = linear()
    weight, bias = scale_residual_write((layer.weight, layer.bias), 1 / 32)
    assert torch.equal(nn.functional.linear(rows(), weight, bias), layer(rows()) / 32)


def test_fold_token_type_adds_type_0_to_every_position() -> None:
    config = GenaBertConfig.from_dict(config_dict())
    embeddings = Embeddings(config).requires_grad_(False)
    for table in ("word", "position", "token_type"):  # which are left as the memory was
        nn.init.normal_(getattr(embeddings, f"{table}_embeddings").weight)
    words, positions = fold_token_type(embeddings)
    assert torch.equal(words, embeddings.word_embeddings.weight)
    ids = torch.tensor([[1, 9, 2]])
    with torch.no_grad():
        expected = embeddings(ids)
        folded = embeddings.LayerNorm(words[ids] + positions[:3])
    torch.testing.assert_close(folded, expected)


@pytest.mark.parametrize("size", [1e-4, 0.3, 1.0, 17.0, 5000.0])
def test_embedding_scale_brings_the_largest_sum_below_64(size: float) -> None:
    words = size * torch.rand(10, 8, generator=torch.Generator().manual_seed(0))
    positions = -size * torch.rand(6, 8, generator=torch.Generator().manual_seed(1))
    scale = embedding_scale(words, positions)
    assert math.log2(scale).is_integer()
    largest = float(((words[:, None].abs() + positions.abs()) * scale).max())
    assert 32 < largest <= 64


def test_embedding_scale_of_an_empty_table_is_one() -> None:
    assert embedding_scale(torch.zeros(4, 2), torch.zeros(3, 2)) == 1


def test_effective_eps_is_what_fp16_can_hold() -> None:
    assert effective_eps(1e-5, 1) == 1e-5
    assert effective_eps(1e-5, 4) == pytest.approx(16e-5)
    # 2^-24 is the smallest positive fp16; less would become 0, or be raised silently.
    assert effective_eps(1e-12, 1) == 2.0**-24
    assert torch.tensor(effective_eps(1e-12, 1)).half() > 0
    assert torch.tensor(SMALLEST_FP16 / 2.1).half() == 0


@pytest.mark.parametrize("with_bias", [True, False])
def test_a_convolution_is_traced_as_one_and_computed_as_the_same_numbers(with_bias: bool) -> None:
    weight, bias, x = torch.randn(8, 6), torch.randn(8), torch.randn(1, 6, 1, 5)
    layer = convolution((weight, bias if with_bias else None))
    found = layer(x)
    torch.testing.assert_close(found, nn.Conv2d.forward(layer, x))
    traced = torch.jit.trace(layer, (x,))
    assert "aten::_convolution" in str(traced.inlined_graph)
    assert "bmm" not in str(traced.inlined_graph)
    torch.testing.assert_close(found, traced(x))
