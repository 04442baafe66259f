"""Which parts of a network need fp32, found by emulation before anything is built.

The errors of the modules add up (they are independent roundings), so one run a module ranks them.
What is built is verified again, whatever is found here.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from converter.conversion.emulation import emulate, precision_modules
from converter.fidelity.gates import FP16_OPERATIONS, FP32_ARITHMETIC, Figures, compare, worst
from converter.network.neural_attention import SplitHeadAttention
from converter.network.neural_engine import NeuralEngineEncoder

# Room between what the emulation says and the gate, in dB.
MARGIN_DB = 2.0
# Estimates of one network with other roundings differ by a dB or two; more is a real gain.
GAIN_DB = 3.0
# A module that alone brings a package this close to the gate, in dB, or below it, limits fp16.
_LIMITING_DB = 10.0
# So much of the arithmetic may be in an fp32 prefix, as a share.
PREFIX_SHARE = 0.10

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Estimate:
    """What a package is expected to reach, the worst of a few windows.

    Attributes:
        weights_only: fp16 weights, fp32 arithmetic.
        everything: every operation's output in fp16.
    """

    weights_only: Figures
    everything: Figures

    def meets_gates(self, margin: float = MARGIN_DB) -> bool:
        """Whether the package would be `expected`, with so many dB to spare."""
        return (
            self.weights_only.psnr >= FP32_ARITHMETIC.expected + margin
            and self.everything.psnr >= FP16_OPERATIONS.expected + margin
        )


@dataclass(frozen=True)
class Limit:
    """A module whose fp16 costs fidelity: the dB that are left with it alone in fp16."""

    module: str
    psnr: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: null where it overflows."""
        return {
            "module": self.module,
            "psnr_db": round(self.psnr, 1) if math.isfinite(self.psnr) else None,
        }


class Emulated:
    """A network on a few windows, with some of its modules in fp16.

    Args:
        network: takes ids of its own length.
        input_ids: (B, L) int32, padded windows.
        window: tokens of the longest window, whose arithmetic counts.
        truths: for each window, the reference's hidden states (n, H) of its real tokens.
    """

    def __init__(
        self,
        network: NeuralEngineEncoder,
        input_ids: NDArray[np.int32],
        truths: Sequence[NDArray[np.float32]],
        window: int,
    ) -> None:
        self.network = network
        self.modules = precision_modules(network)
        self.window = window
        self._inputs = (torch.from_numpy(input_ids),)
        self._truths = truths

    def figures(self, fp16: Collection[str], *, round_operations: bool = True) -> Figures:
        """The worst window with these modules in fp16."""
        result = emulate(self.network, self._inputs, fp16, round_operations=round_operations)
        found = {
            str(index): compare(truth, result[index, : len(truth)].numpy())
            for index, truth in enumerate(self._truths)
        }
        return worst(FP16_OPERATIONS, found).worst

    def estimate(self, fp32: Collection[str] = ()) -> Estimate:
        """With all modules but these in fp16."""
        fp16 = [module for module in self.modules if module not in fp32]
        return Estimate(self.figures(fp16, round_operations=False), self.figures(fp16))


def limits(emulated: Emulated, progress: Progress = lambda _: None) -> tuple[Limit, ...]:
    """Modules that limit fp16, the worst first.

    Whole blocks are looked at first, and the modules of those that matter.
    """
    groups: dict[str, list[str]] = {}
    for module in emulated.modules:
        groups.setdefault(".".join(module.split(".")[:2]), []).append(module)
    bound = FP16_OPERATIONS.expected + _LIMITING_DB
    found = []
    for index, modules in enumerate(groups.values()):
        if emulated.figures(modules).psnr < bound:
            alone = [Limit(module, emulated.figures((module,)).psnr) for module in modules]
            found += [limit for limit in alone if limit.psnr < bound]
        progress((index + 1) / len(groups))
    return tuple(sorted(found, key=lambda limit: limit.psnr))


def short_prefixes(emulated: Emulated) -> Iterator[tuple[str, ...]]:
    """First modules whose fp32 makes the rest `expected`: the fewest, then more that gain more.

    At most `PREFIX_SHARE` of the arithmetic is in them, so that fp16 stays one segment and nearly
    all of the work.
    """
    modules = emulated.modules
    costs = [arithmetic(emulated.network, module, emulated.window) for module in modules]
    needed = -math.inf
    for count in range(1, len(modules)):
        if sum(costs[:count]) > PREFIX_SHARE * sum(costs):
            return
        estimate = emulated.estimate(modules[:count])
        if estimate.meets_gates() and estimate.everything.psnr >= needed:
            yield modules[:count]
            needed = estimate.everything.psnr + GAIN_DB


def arithmetic(network: NeuralEngineEncoder, path: str, length: int) -> int:
    """Floating-point operations of a module's matrix products, for so many tokens."""
    total = 0
    for module in network.get_submodule(path).modules():
        if isinstance(module, nn.Conv2d):
            total += 2 * length * module.weight.numel()
        if isinstance(module, SplitHeadAttention):
            total += 2 * 2 * length * module.keys_of_a_query(length) * module.output.in_channels
    return total


def least_fp32(emulated: Emulated, progress: Progress = lambda _: None) -> tuple[str, ...]:
    """The least set of modules, by error, whose fp32 makes the package `expected`.

    Returns:
        Module paths in the order of computation; empty if fp16 will do. All of them if nothing
        less will.
    """
    modules = emulated.modules
    if emulated.estimate().meets_gates():
        return ()
    noise = {}
    for index, module in enumerate(modules):
        noise[module] = _noise(emulated.figures((module,)))
        progress((index + 1) / len(modules))
    for margin in (MARGIN_DB, 4 * MARGIN_DB, 8 * MARGIN_DB):
        kept = _quietest(noise, 10 ** (-(FP16_OPERATIONS.expected + margin) / 10))
        fp32 = tuple(module for module in modules if module not in kept)
        if emulated.estimate(fp32).meets_gates():
            return fp32
    return modules


def _noise(figures: Figures) -> float:
    return float(10 ** (-figures.psnr / 10)) if figures.finite else math.inf


def _quietest(noise: dict[str, float], budget: float) -> list[str]:
    """As many modules as fit the noise budget, quietest first."""
    kept: list[str] = []
    total = 0.0
    for module in sorted(noise, key=noise.__getitem__):
        total += noise[module]
        if total > budget:
            break
        kept.append(module)
    return kept
