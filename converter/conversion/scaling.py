"""The network's scales, measured before anything is built, and whether it is still the network."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converter.conversion.build import network_for, network_inputs
from converter.errors import FidelityError
from converter.fidelity.gates import RE_AUTHORED, GateResult, compare, worst
from converter.fidelity.golden import CODING, FULL_LENGTH, Golden
from converter.fidelity.report import LIMITS
from converter.network.neural_attention import SplitHeadAttention
from converter.network.neural_engine import (
    VALUE_SCALE_LOG2,
    GatedFeedForward,
    Normalise,
    PostNormBlock,
    PreNormBlock,
    Scales,
)
from converter.network.reference import ReferenceEncoder
from converter.options import BuildOptions

log = logging.getLogger(__name__)


# Squares up to 2^14 leave room for larger input below fp16's 65504.
_LARGEST_CENTRED = 128.0
# A variance below fp16's smallest normal number, 2^-14, may be flushed to zero; with room to spare.
_LEAST_VARIANCE = 2.0**-10


@dataclass
class Magnitudes:
    """What a window makes of a network, in published units.

    Attributes:
        residual: of the residual stream, the largest magnitude.
        values: of attention's values.
        gated: of what a gated feed-forward multiplies.
        centred: of what norms square, the input less its mean; but for the embedding's norm, which
            has a scale of its own.
        variance: of a row before a norm, the least.
    """

    residual: float = 0.0
    values: float = 0.0
    gated: float = 0.0
    centred: float = 0.0
    variance: float = math.inf


def checked_scales(
    reference: ReferenceEncoder, golden: Golden, options: BuildOptions
) -> tuple[Scales, GateResult]:
    """Scales of the network, and how the network that has them agrees with the reference.

    They are the usual ones where the full-length window has room with them.

    Raises:
        FidelityError: below 100 dB: the re-authoring itself would be wrong.
    """
    usual = Scales()
    network = network_for(reference, options, usual, reference.config.window)
    with _watching(network, usual) as found:
        features = {FULL_LENGTH: _features(network, golden, FULL_LENGTH)}
    *wanted, last = _scales(found, usual)
    for scales in wanted:
        try:
            return scales, check_re_authored(reference, golden, options, scales)
        except FidelityError:
            # Scaled that far, ordinary rows drown in the norms' eps.
            log.warning("a scale of 2^%d blurs other rows", scales.residual_log2)
    if last != usual:
        return last, check_re_authored(reference, golden, options, last)
    return usual, _gate(golden, {CODING: _features(network, golden, CODING), **features})


def check_re_authored(
    reference: ReferenceEncoder, golden: Golden, options: BuildOptions, scales: Scales
) -> GateResult:
    """The network that will be traced, in fp32, against the reference.

    Args:
        reference: what it is made of: the published network, or its cured equal.

    Raises:
        FidelityError: below 100 dB.
    """
    network = network_for(reference, options, scales, reference.config.window)
    names = (CODING, FULL_LENGTH)
    return _gate(golden, {name: _features(network, golden, name) for name in names})


def _features(network: nn.Module, golden: Golden, name: str) -> NDArray[np.float32]:
    """Hidden states (n, H) of a window's real tokens."""
    index = golden.index(name)
    inputs = network_inputs(network, golden.input_ids[index : index + 1])
    with torch.no_grad():
        features: Tensor = network(*inputs.values())[0, : golden.n_tokens(index)]
    return features.numpy()


def _gate(golden: Golden, features: dict[str, NDArray[np.float32]]) -> GateResult:
    figures = {
        name: compare(golden.reference[golden.index(name), : len(found)], found)
        for name, found in features.items()
    }
    gate = worst(RE_AUTHORED, figures)
    if gate.verdict == "refused":
        raise FidelityError(f"The re-authored network is refused. {gate.sentence()}.")
    return gate


def _scales(found: Magnitudes, usual: Scales) -> list[Scales]:
    """The usual scales, changed where activations would overflow or vanish otherwise.

    A power of two brings values, gated products and stream inside half of a fixed-point
    accumulator, and what norms square, and the mean of the squares, inside fp16: exactly.

    Returns:
        The best first; then those that do less for the norms, or nothing, and disturb no row.
    """
    limit = LIMITS["half the accumulator"]
    usual = replace(
        usual,
        value_log2=min(usual.value_log2, _room(limit, found.values)),
        gate_log2=min(usual.gate_log2, _room(limit, found.gated)),
    )
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


@contextlib.contextmanager
def _watching(network: nn.Module, scales: Scales) -> Iterator[Magnitudes]:
    """Measure what passes through a network whose residual stream has the published size.

    Nothing is seen of the published layout, which takes no scale.
    """
    found = Magnitudes()

    def stream(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.residual = max(found.residual, float(output.abs().max()))

    def values(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.values = max(found.values, float(output.abs().max()) / scales.value)

    def gated(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        found.gated = max(found.gated, float(inputs[0].abs().max()) / scales.gate)

    def norm(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        centred = inputs[0] - inputs[0].mean(dim=1, keepdim=True)
        found.centred = max(found.centred, float(centred.abs().max()))
        found.variance = min(found.variance, float(centred.square().mean(dim=1).min()))

    handles = []
    for path, module in network.named_modules():
        if isinstance(module, PreNormBlock | PostNormBlock):
            handles.append(module.register_forward_hook(stream))
        if isinstance(module, SplitHeadAttention):
            handles.append(module.value.register_forward_hook(values))
        if isinstance(module, GatedFeedForward):
            handles += [down.register_forward_pre_hook(gated) for down in module.down]
        if isinstance(module, Normalise) and not path.startswith("embedding_stage"):
            handles.append(module.register_forward_pre_hook(norm))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
