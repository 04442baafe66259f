"""Cures leave the network what it is, and fp16 a smaller task."""

from typing import Any

import pytest
import torch

from converter.conversion.emulation import precision_modules
from converter.fidelity.gates import compare
from converter.network.gena_bert.cures import centre_attention
from converter.network.gena_bert.reference import GenaEncoder
from tests.support.fp16_networks import (
    N_TOKENS,
    emulate_both,
    make_reference,
    network_of,
    truth_of,
    window,
)


def loud_keys(reference: GenaEncoder) -> GenaEncoder:
    """Biases of queries and keys that add 10,000 to every score of a query."""
    generator = torch.Generator().manual_seed(5)
    for layer in reference.encoder.layer:
        attention: Any = layer
        for linear in (attention.attention.self.query, attention.attention.self.key):
            linear.bias.add_(100 * torch.randn(linear.bias.shape, generator=generator))
    return reference


def loud_values(reference: GenaEncoder) -> GenaEncoder:
    """A large value that is common to all tokens, taken out again behind the attention."""
    generator = torch.Generator().manual_seed(5)
    for layer in reference.encoder.layer:
        attention: Any = layer
        value, dense = attention.attention.self.value, attention.attention.output.dense
        common = 30 * torch.randn(value.bias.shape, generator=generator)
        value.bias.add_(common)
        dense.bias.sub_(dense.weight @ common)
    return reference


@pytest.mark.parametrize("pre_layer_norm", [True, False], ids=["pre-LN", "post-LN"])
@pytest.mark.parametrize("loud", [loud_keys, loud_values])
def test_what_all_keys_or_values_share_is_taken_out(loud: Any, pre_layer_norm: bool) -> None:
    reference = loud(make_reference(pre_layer_norm=pre_layer_norm))
    before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    cured = centre_attention(reference, [window()[:, :N_TOKENS].long()])
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    # The same network, in fp32 and on another window.
    truth = truth_of(reference, seed=7)
    assert compare(truth[0].numpy(), truth_of(cured, seed=7)[0].numpy()).psnr > 90
    modules = precision_modules(network_of(reference))
    plain, better = (
        emulate_both(network, modules, seed=7).everything.psnr for network in (reference, cured)
    )
    assert plain < 60 < better


def test_all_other_weights_are_shared() -> None:
    reference = make_reference()
    cured = centre_attention(reference, [window()[:, :N_TOKENS].long()])
    for name, tensor in reference.named_parameters():
        same = tensor is cured.get_parameter(name)
        biases = ("self.key.bias", "self.value.bias", "attention.output.dense.bias")
        assert same is not name.endswith(biases), name
