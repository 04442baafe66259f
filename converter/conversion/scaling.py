"""The network's scales, measured before anything is built, and whether it is still the network."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from converter.conversion.build import network_for, network_inputs
from converter.errors import FidelityError
from converter.fidelity.gates import RE_AUTHORED, GateResult, compare, worst
from converter.fidelity.golden import CODING, FULL_LENGTH, Golden
from converter.fidelity.report import LIMITS
from converter.network.neural_engine import (
    VALUE_SCALE_LOG2,
    NeuralEngineEncoder,
    Scales,
    SplitHeadAttention,
)
from converter.network.reference import GenaEncoder
from converter.options import BuildOptions
from converter.tokenizer import WINDOW

log = logging.getLogger(__name__)


def checked_scales(
    reference: GenaEncoder, golden: Golden, options: BuildOptions
) -> tuple[Scales, GateResult]:
    """Scales of the network, and how the network that has them agrees with the reference.

    Raises:
        FidelityError: below 100 dB: the re-authoring itself would be wrong.
    """
    scales = measure_scales(reference, golden, options)
    try:
        return scales, check_re_authored(reference, golden, options, scales)
    except FidelityError:
        if scales.residual_log2 == 0:
            raise
    # Scaled that far, ordinary rows drown in the norms' eps. fp32 has room without a scale.
    log.warning("a scale of 2^%d blurs other rows: not scaled", scales.residual_log2)
    scales = replace(scales, residual_log2=0)
    return scales, check_re_authored(reference, golden, options, scales)


def measure_scales(reference: GenaEncoder, golden: Golden, options: BuildOptions) -> Scales:
    """The usual scales, lowered where activations would overflow otherwise.

    Largest magnitudes of the residual stream and of the values are taken from the re-authored
    network on the verification windows; a power of two brings those that are beyond half of a
    fixed-point accumulator back, exactly.
    """
    if options.layout == "published":
        return Scales()
    residual, values = _largest(reference, golden, options)
    limit = LIMITS["half the accumulator"]
    room = math.floor(math.log2(limit / values)) if values else VALUE_SCALE_LOG2
    scales = Scales(value_log2=min(VALUE_SCALE_LOG2, room))
    if reference.config.pre_layer_norm and residual > limit:
        scales = replace(scales, residual_log2=math.floor(math.log2(limit / residual)))
        log.warning(
            "the residual stream reaches %.0f; it runs scaled by 2^%d",
            residual,
            scales.residual_log2,
        )
    return scales


def _largest(reference: GenaEncoder, golden: Golden, options: BuildOptions) -> tuple[float, float]:
    """Largest magnitudes of the unscaled residual stream, and of attention's values."""
    in_graph = options.model_copy(update={"embedding": "graph"})
    network = NeuralEngineEncoder(reference, WINDOW, in_graph, Scales(value_log2=0))
    largest = {"residual": 0.0, "values": 0.0}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            largest[name] = max(largest[name], float(output.abs().max()))

        return hook

    for block in network.blocks:
        block.register_forward_hook(record("residual"))
    for module in network.modules():
        if isinstance(module, SplitHeadAttention):
            module.value.register_forward_hook(record("values"))
    with torch.no_grad():
        network(torch.from_numpy(golden.input_ids[golden.index(FULL_LENGTH)][None]))
    return largest["residual"], largest["values"]


def check_re_authored(
    reference: GenaEncoder, golden: Golden, options: BuildOptions, scales: Scales
) -> GateResult:
    """The network that will be traced, in fp32, against the reference.

    Args:
        reference: what it is made of: the published network, or its cured equal.

    Raises:
        FidelityError: below 100 dB.
    """
    network = network_for(reference, options, scales, WINDOW)
    figures = {}
    for name in (CODING, FULL_LENGTH):
        index = golden.index(name)
        n = golden.n_tokens(index)
        inputs = network_inputs(network, golden.input_ids[index : index + 1])
        with torch.no_grad():
            result = network(*inputs.values())[0, :n].numpy()
        figures[name] = compare(golden.reference[index, :n], result)
    gate = worst(RE_AUTHORED, figures)
    if gate.verdict == "refused":
        raise FidelityError(f"The re-authored network is refused. {gate.sentence()}.")
    return gate
