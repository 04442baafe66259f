"""The re-authored network is the reference within 100 dB."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter.fidelity.gates import psnr
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.neural_engine import embedding_stage as stage_of
from converter.network.gena_bert.neural_engine import re_author
from converter.network.gena_bert.reference import GenaEncoder
from converter.network.neural_engine import (
    ChannelNorm,
    EmbeddingStage,
    NeuralEngineEncoder,
    Normalise,
    Scales,
)
from converter.network.surgery import SMALLEST_FP16
from converter.options import BuildOptions
from tools.seeded_checkpoints import config_dict, random_weights

PAD = 3
PLAIN, USUAL = BuildOptions(), Scales()
EXPECTED = 100  # dB, the gate for the re-authored network


def make_reference(seed: int = 0, **changes: Any) -> GenaEncoder:
    config = GenaBertConfig.from_dict(config_dict(**changes))
    network = GenaEncoder(config)
    network.load_state_dict(random_weights(config, seed))
    return network.eval().requires_grad_(False)


def window(n_tokens: int, length: int, seed: int = 0) -> Tensor:
    """(1, length) int32: specials, random tokens, padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((1, length), PAD, dtype=torch.int32)
    ids[0, :n_tokens] = torch.randint(5, 400, (n_tokens,), generator=generator).int()
    ids[0, 0], ids[0, n_tokens - 1] = 1, 2
    return ids


def inputs_for(network: NeuralEngineEncoder, ids: Tensor, options: BuildOptions) -> tuple[Any, ...]:
    if options.embedding == "graph":
        return (ids,)
    rows = network.host_table()[ids[0].long()]  # (L, H)
    return rows.T[None, :, None, :], (ids != PAD).float()


def agreement(
    reference: GenaEncoder,
    options: BuildOptions = PLAIN,
    scales: Scales = USUAL,
    n_tokens: int = 50,
    length: int = 64,
) -> float:
    """PSNR over the real rows of one padded window."""
    ids = window(n_tokens, length)
    network = re_author(reference, length, options, scales).eval()
    with torch.no_grad():
        expected = reference(ids[:, :n_tokens].long())[0]
        found = network(*inputs_for(network, ids, options))
    assert found.shape == (1, length, reference.config.hidden_size)
    return psnr(expected.numpy(), found[0, :n_tokens].numpy())


def embedding_stage(reference: GenaEncoder) -> EmbeddingStage:
    return stage_of(reference, 64, BuildOptions(), Scales())


MODELS = {
    "pre-LN": {"pre_layer_norm": True, "last_layer_norm": False},
    "pre-LN, last norm": {"pre_layer_norm": True, "last_layer_norm": True},
    "post-LN": {"pre_layer_norm": False, "last_layer_norm": False},
    "post-LN, last norm": {"pre_layer_norm": False, "last_layer_norm": True},
    "eps 1e-5": {"pre_layer_norm": True, "last_layer_norm": True, "layer_norm_eps": 1e-5},
    "one head": {"num_attention_heads": 1},
    "t2t": {"pre_layer_norm": False, "layer_norm_eps": 1e-5, "type_vocab_size": 1},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("embedding", "ffn_chunks", "value_log2"),
    [("graph", 1, 4), ("graph", 4, 4), ("host", 1, 4), ("host", 2, 0), ("graph", 1, -9)],
)
def test_it_is_the_reference(model: str, embedding: Any, ffn_chunks: int, value_log2: int) -> None:
    options = BuildOptions(embedding=embedding, ffn_chunks=ffn_chunks)
    reference = make_reference(**MODELS[model])
    assert agreement(reference, options, Scales(value_log2=value_log2)) >= EXPECTED


@pytest.mark.parametrize("n_tokens", [2, 3, 63, 64])
def test_it_is_the_reference_whatever_is_padding(n_tokens: int) -> None:
    assert agreement(make_reference(), n_tokens=n_tokens) >= EXPECTED


@pytest.mark.parametrize("pre_layer_norm", [True, False])
@pytest.mark.parametrize("last_layer_norm", [True, False])
@pytest.mark.parametrize("exponent", [-2, 3])
def test_the_residual_stream_may_run_at_another_scale(
    last_layer_norm: bool, pre_layer_norm: bool, exponent: int
) -> None:
    reference = make_reference(last_layer_norm=last_layer_norm, pre_layer_norm=pre_layer_norm)
    assert agreement(reference, scales=Scales(residual_log2=exponent)) >= EXPECTED
    states = []
    plain = re_author(reference, 64, BuildOptions(), Scales())
    scaled = re_author(reference, 64, BuildOptions(), Scales(residual_log2=exponent))
    for network in (plain, scaled):
        network.blocks[-1].register_forward_hook(lambda _m, _i, output: states.append(output))
        with torch.no_grad():
            network(window(50, 64))
    torch.testing.assert_close(states[1], states[0] * 2.0**exponent, rtol=1e-4, atol=1e-4)


def test_chunks_have_to_divide_the_intermediate_size() -> None:
    with pytest.raises(ValueError, match=r"128.*3 chunks"):
        re_author(make_reference(), 64, BuildOptions(ffn_chunks=3), Scales())


def test_the_reference_is_left_as_it_was() -> None:
    reference = make_reference()
    before = {n: t.clone() for n, t in reference.state_dict().items()}
    network = re_author(reference, 64, BuildOptions(), Scales(residual_log2=-2))
    with torch.no_grad():
        network(window(50, 64))
        for tensor in network.state_dict().values():
            tensor.zero_()
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("embedding", ["graph", "host"])
@pytest.mark.parametrize("pre_layer_norm", [True, False])
def test_padding_has_no_influence(embedding: Any, pre_layer_norm: bool) -> None:
    """The same tokens in windows of 64 and 512, and with other embeddings of padding."""
    reference = make_reference(pre_layer_norm=pre_layer_norm)
    options = BuildOptions(embedding=embedding)
    rows = []
    for length, shift in ((64, 0.0), (512, 0.0), (512, 3.0)):
        network = re_author(reference, length, options, Scales()).eval()
        with torch.no_grad():
            network.host_table()[PAD] += shift
            rows.append(network(*inputs_for(network, window(50, length), options))[0, :50])
    assert psnr(rows[0].numpy(), rows[1].numpy()) >= EXPECTED
    assert torch.equal(rows[1], rows[2])


def test_host_rows_and_mask_give_what_ids_give() -> None:
    reference = make_reference()
    ids = window(50, 64)
    outputs = []
    for options in (BuildOptions(embedding="graph"), BuildOptions(embedding="host")):
        network = re_author(reference, 64, options, Scales())
        with torch.no_grad():
            outputs.append(network(*inputs_for(network, ids, options)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_rows_of_tiny_variance_are_normalised_right(eps: float) -> None:
    """Variance about 1e-8: sixty times below the smallest eps that fp16 holds."""
    reference = make_reference(layer_norm_eps=eps, pre_layer_norm=False)
    with torch.no_grad():
        reference.embeddings.word_embeddings.weight.mul_(2e-3)
        reference.embeddings.position_embeddings.weight.mul_(2e-3)
        reference.embeddings.token_type_embeddings.weight.mul_(2e-3)
        ids = window(50, 64)
        rows = reference.embeddings.word_embeddings(ids.long())
        assert 1e-9 < float(rows.var(-1).median()) < 1e-7
        expected = reference.embeddings(ids.long())[0, :50]
        stage = embedding_stage(reference)
        found = stage(ids)[0][0, :, 0, :50].T
    assert psnr(expected.numpy(), found.numpy()) >= EXPECTED
    assert stage.norm.normalise.eps >= SMALLEST_FP16
    assert agreement(reference) >= EXPECTED


def test_one_row_of_tiny_variance_among_others() -> None:
    """The scale is set by the largest row; eps must still not swallow the smallest one."""
    reference = make_reference(pre_layer_norm=False)
    with torch.no_grad():
        reference.embeddings.word_embeddings.weight[7] *= 2e-3
        reference.embeddings.position_embeddings.weight[1] *= 2e-3
        reference.embeddings.token_type_embeddings.weight.zero_()
        ids = window(50, 64)
        ids[0, 1] = 7
        expected = reference.embeddings(ids.long())[0, 1]
        stage = embedding_stage(reference)
        found = stage(ids)[0][0, :, 0, 1]
    assert psnr(expected.numpy(), found.numpy()) >= 80


@pytest.mark.parametrize("input_scale", [1.0, 64.0])
def test_channel_norms_are_layer_norm(input_scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = nn.LayerNorm(16, eps=1e-3).requires_grad_(False)
    layer.weight.copy_(torch.linspace(-3, 3, 16))
    layer.bias.copy_(torch.randn(16, generator=generator))
    x = torch.randn(40, 16, generator=generator)
    expected = layer(x)
    channels = (x * input_scale).T[None, :, None, :]
    found = ChannelNorm.like(layer, eps_scale=input_scale, output_scale=0.5)(channels)
    torch.testing.assert_close(found[0, :, 0].T, expected * 0.5, rtol=1e-4, atol=1e-5)
    plain = Normalise(1e-3, input_scale)(channels)[0, :, 0].T
    torch.testing.assert_close(
        plain, nn.functional.layer_norm(x, (16,), eps=1e-3), rtol=1e-4, atol=1e-5
    )
