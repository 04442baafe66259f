"""The network's scales, measured before anything is built, and whether it is still the network."""

import logging
import math
from dataclasses import dataclass, replace
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
    Normalise,
    Scales,
    SplitHeadAttention,
)
from converter.network.reference import GenaEncoder
from converter.options import BuildOptions
from converter.tokenizer import WINDOW

log = logging.getLogger(__name__)


# Squares up to 2^14 leave room for larger input below fp16's 65504.
_LARGEST_CENTRED = 128.0
# A variance below fp16's smallest normal number, 2^-14, may be flushed to zero; with room to spare.
_LEAST_VARIANCE = 2.0**-10


@dataclass
class Magnitudes:
    """What a window makes of the unscaled network.

    Attributes:
        residual: of the residual stream, the largest magnitude.
        values: of attention's values.
        centred: of what norms square, the input less its mean; but for the embedding's norm, which
            has a scale of its own.
        variance: of a row before a norm, the least.
    """

    residual: float = 0.0
    values: float = 0.0
    centred: float = 0.0
    variance: float = math.inf


def checked_scales(
    reference: GenaEncoder, golden: Golden, options: BuildOptions
) -> tuple[Scales, GateResult]:
    """Scales of the network, and how the network that has them agrees with the reference.

    Raises:
        FidelityError: below 100 dB: the re-authoring itself would be wrong.
    """
    *wanted, last = measured_scales(reference, golden, options)
    for scales in wanted:
        try:
            return scales, check_re_authored(reference, golden, options, scales)
        except FidelityError:
            # Scaled that far, ordinary rows drown in the norms' eps.
            log.warning("a scale of 2^%d blurs other rows", scales.residual_log2)
    return last, check_re_authored(reference, golden, options, last)


def measured_scales(reference: GenaEncoder, golden: Golden, options: BuildOptions) -> list[Scales]:
    """The usual scales, changed where activations would overflow or vanish otherwise.

    Magnitudes are taken from the re-authored network on the full-length window. A power of two
    brings values and stream inside half of a fixed-point accumulator, and what norms square, and
    the mean of the squares, inside fp16: exactly.

    Returns:
        The best first; then those that do less for the norms, or nothing, and disturb no row.
    """
    if options.layout == "published":
        return [Scales()]
    found = _magnitudes(reference, golden, options)
    limit = LIMITS["half the accumulator"]
    usual = Scales(value_log2=min(VALUE_SCALE_LOG2, _room(limit, found.values)))
    stream = _room(limit, found.residual)
    norms = min(stream, _room(_LARGEST_CENTRED, found.centred))
    wanted = [norms] if norms < 0 or found.variance < _LEAST_VARIANCE else []
    wanted += [stream] if stream < 0 else []
    if wanted:
        log.warning(
            "the residual stream reaches %.0f, and %.0f around its mean: it is scaled",
            found.residual,
            found.centred,
        )
    return [replace(usual, residual_log2=exponent) for exponent in dict.fromkeys([*wanted, 0])]


def _room(limit: float, largest: float) -> int:
    """The power of two that brings a magnitude to the limit; as large as the usual one for 0."""
    return math.floor(math.log2(limit / largest)) if largest else VALUE_SCALE_LOG2


def _magnitudes(reference: GenaEncoder, golden: Golden, options: BuildOptions) -> Magnitudes:
    in_graph = options.model_copy(update={"embedding": "graph"})
    network = NeuralEngineEncoder(reference, WINDOW, in_graph, Scales(value_log2=0))
    found = Magnitudes()

    def stream(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.residual = max(found.residual, float(output.abs().max()))

    def values(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.values = max(found.values, float(output.abs().max()))

    def norm(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        centred = inputs[0] - inputs[0].mean(dim=1, keepdim=True)
        found.centred = max(found.centred, float(centred.abs().max()))
        found.variance = min(found.variance, float(centred.square().mean(dim=1).min()))

    for block in network.blocks:
        block.register_forward_hook(stream)
    for path, module in network.named_modules():
        if isinstance(module, SplitHeadAttention):
            module.value.register_forward_hook(values)
        if isinstance(module, Normalise) and not path.startswith("embedding_stage"):
            module.register_forward_pre_hook(norm)
    with torch.no_grad():
        network(torch.from_numpy(golden.input_ids[golden.index(FULL_LENGTH)][None]))
    return found


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
