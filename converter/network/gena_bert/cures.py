"""Cures for fp16: other weights of the same network, equal in real arithmetic.

They are worth their place only where they measurably help; who applies them measures.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from converter.network.gena_bert.reference import GenaEncoder

CENTRED_ATTENTION = "centred keys and values"


@torch.no_grad()
def centre_attention(reference: GenaEncoder, windows: Sequence[Tensor]) -> GenaEncoder:
    """The same network with keys and values that lie around zero.

    A key's bias adds the same to the scores of all keys, which the softmax takes out again; what is
    common to all values comes out of attention as it went in, since probabilities sum to one, and
    moves into the bias of the output. What fp16 has to hold becomes smaller, and its steps finer.

    Args:
        reference: is not changed; the result shares all its other weights.
        windows: ids (1, n) int64 without padding, whose mean key and value are taken out. In
            double precision, so that every machine finds the same.
    """
    shared = {id(parameter): parameter for parameter in reference.parameters()}
    network: GenaEncoder = copy.deepcopy(reference, shared)
    embeddings = copy.deepcopy(reference.embeddings).double()
    states = [embeddings(ids) for ids in windows]
    no_padding = torch.zeros(1, dtype=torch.float64)
    for layer, cured in zip(reference.encoder.layer, network.encoder.layer, strict=True):
        exact: Any = copy.deepcopy(layer).double()
        before, after = exact.attention, cast(Any, cured).attention
        outputs = _recorded(before.self.key), _recorded(before.self.value)
        states = [exact(state, no_padding) for state in states]
        key, value = (torch.cat(rows).mean(0) for rows in outputs)
        dense = before.output.dense
        after.self.key.bias = _frozen(before.self.key.bias - key)
        after.self.value.bias = _frozen(before.self.value.bias - value)
        after.output.dense.bias = _frozen(dense.bias + dense.weight @ value)
    return network


def _recorded(linear: nn.Linear) -> list[Tensor]:
    """A list that gets the rows (n, H) of each output that the layer gives from now on."""
    outputs: list[Tensor] = []
    linear.register_forward_hook(lambda _module, _inputs, output: outputs.append(output[0]))
    return outputs


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float(), requires_grad=False)
