"""What is measured before anything is built: the network's scales, and the precisions to try."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converter.conversion.build import EVERYTHING, network_for, network_inputs
from converter.conversion.precision import choose_fp32_modules, precision_modules
from converter.conversion.progress import OnProgress
from converter.errors import FidelityError
from converter.fidelity.gates import RE_AUTHORED, GateResult, compare, worst
from converter.fidelity.golden import CODING, FULL_LENGTH, INTERGENIC, Golden
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

# The effect of fp16 is measured on a window of this many tokens.
_SEARCH_LENGTH = 128


@dataclass(frozen=True)
class Candidate:
    """One precision to try.

    Attributes:
        fp32_modules: parts of the network in fp32.
        chosen: "fp16", "mixed" or "fp32".
    """

    fp32_modules: tuple[str, ...]
    chosen: str
    reason: str


def checked_scales(
    reference: GenaEncoder, golden: Golden, options: BuildOptions
) -> tuple[Scales, GateResult]:
    """Scales of the network, and how the network that has them agrees with the reference.

    Raises:
        FidelityError: below 100 dB: the re-authoring itself would be wrong.
    """
    scales = measure_scales(reference, golden, options)
    try:
        return scales, _check_re_authored(reference, golden, options, scales)
    except FidelityError:
        if scales.residual_log2 == 0:
            raise
    # Scaled that far, ordinary rows drown in the norms' eps. fp32 has room without a scale.
    log.warning("a scale of 2^%d blurs other rows: not scaled", scales.residual_log2)
    scales = replace(scales, residual_log2=0)
    return scales, _check_re_authored(reference, golden, options, scales)


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


def _check_re_authored(
    reference: GenaEncoder, golden: Golden, options: BuildOptions, scales: Scales
) -> GateResult:
    """The network that will be traced, in fp32, against the reference."""
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


def candidates(
    reference: GenaEncoder,
    golden: Golden,
    options: BuildOptions,
    scales: Scales,
    on_progress: OnProgress,
) -> Iterator[Candidate]:
    """Precisions to try, the fastest first and the most exact last."""
    if options.precision == "fp32":
        yield Candidate(EVERYTHING, "fp32", "asked for")
        return
    if options.precision == "fp16" or options.compressed:
        yield Candidate((), "fp16", "asked for")
        return
    sensitive: tuple[str, ...] = ()
    if options.layout == "neural-engine":
        on_progress("read", 1.0, "Looking for parts that fp16 would blur")
        network = NeuralEngineEncoder(reference, _SEARCH_LENGTH, options, scales).eval()
        sensitive = _sensitive_modules(network, reference, golden, on_progress)
        if sensitive and sensitive != precision_modules(network):
            yield Candidate(sensitive, "mixed", f"fp16 would blur {', '.join(sensitive)}")
    if not sensitive:
        yield Candidate((), "fp16", "every gate is expected to pass")
    yield Candidate(EVERYTHING, "fp32", "less does not pass every gate as expected")


def _sensitive_modules(
    network: NeuralEngineEncoder, reference: GenaEncoder, golden: Golden, on_progress: OnProgress
) -> tuple[str, ...]:
    """What needs fp32, measured on the first tokens of one window."""
    index = golden.index(INTERGENIC)
    n_tokens = min(golden.n_tokens(index), _SEARCH_LENGTH)
    ids = np.full((1, _SEARCH_LENGTH), golden.pad_id, dtype=np.int32)
    ids[0, :n_tokens] = golden.input_ids[index, :n_tokens]
    with torch.no_grad():
        truth = reference(torch.from_numpy(ids[:, :n_tokens].astype(np.int64)))
    return choose_fp32_modules(
        network,
        tuple(network_inputs(network, ids).values()),
        truth,
        n_tokens,
        lambda fraction: on_progress("read", fraction, "Measuring the effect of fp16"),
    )
