"""The re-authored network is the reference within 100 dB."""

from typing import Any

import pytest
import torch

from converter.conversion.build import network_inputs
from converter.fidelity.gates import psnr
from converter.network.moderngena.neural_engine import re_author
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from tests.support.moderngena import make_moderngena_reference, token_ids

EXPECTED = 100  # dB, the gate for the re-authored network
CHOICES: dict[str, tuple[dict[str, Any], BuildOptions, Scales]] = {
    "plain": ({}, BuildOptions(), Scales()),
    "chunks": ({}, BuildOptions(ffn_chunks=4), Scales()),
    "host": ({}, BuildOptions(embedding="host"), Scales()),
    "scaled": ({}, BuildOptions(), Scales(residual_log2=-3, value_log2=2, gate_log2=-5)),
    "two thetas": ({"local_rope_theta": 1e3}, BuildOptions(), Scales()),
    "one head": ({"num_attention_heads": 1}, BuildOptions(), Scales()),
    "six heads": ({"hidden_size": 96, "num_attention_heads": 6}, BuildOptions(), Scales()),
    "local first": (
        {"layer_types": ["sliding_attention", "full_attention"] * 2},
        BuildOptions(),
        Scales(),
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(("n_tokens", "length"), [(3, 128), (128, 128), (200, 256), (3, 1024)])
def test_it_is_the_reference(choice: str, n_tokens: int, length: int) -> None:
    changes, options, scales = CHOICES[choice]
    reference = make_moderngena_reference(**{"num_hidden_layers": 4, **changes})
    ids = token_ids(n_tokens, length)
    network = re_author(reference, length, options, scales)
    with torch.no_grad():
        expected = reference(ids[:, :n_tokens])[0]
        found = network(*network_inputs(network, ids.int().numpy()).values())
    assert found.shape == (1, length, reference.config.hidden_size)
    assert torch.isfinite(found).all()
    assert psnr(expected.numpy(), found[0, :n_tokens].numpy()) >= EXPECTED


def test_the_gate_runs_at_its_scale() -> None:
    reference = make_moderngena_reference()
    products = []
    for scales in (Scales(), Scales(gate_log2=-5)):
        network = re_author(reference, 128, BuildOptions(), scales)
        network.blocks[0].feed_forward.down[0].register_forward_pre_hook(
            lambda _module, inputs: products.append(inputs[0])
        )
        with torch.no_grad():
            network(token_ids(128).int())
    torch.testing.assert_close(products[1] * 32, products[0])


def test_chunks_have_to_divide_the_intermediate_size() -> None:
    with pytest.raises(ValueError, match=r"128.*3 chunks"):
        re_author(make_moderngena_reference(), 64, BuildOptions(ffn_chunks=3), Scales())
