"""Which precisions to try, the ones that keep the Neural Engine first.

In this order: everything in fp16; with cures that are exact in real arithmetic; with an fp32
prefix, so that the rest is one fp16 segment; everything in fp16 with a flag; and more fp32 only
where fp16 is refused. Leaving the engine for a few dB is the user's choice.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from converter.conversion.build import EVERYTHING, re_authored
from converter.conversion.precision import (
    GAIN_DB,
    MARGIN_DB,
    Emulated,
    Estimate,
    Limit,
    Progress,
    least_fp32,
    limits,
    short_prefixes,
)
from converter.conversion.progress import OnProgress
from converter.conversion.scaling import check_re_authored
from converter.errors import FidelityError
from converter.fidelity.gates import GateResult, Verdict
from converter.fidelity.golden import CODING, ONE_TOKEN, REPEATS, Golden
from converter.network.families import family_of
from converter.network.neural_engine import Scales
from converter.network.reference import ReferenceEncoder
from converter.options import BuildOptions

# The effect of fp16 is estimated on so many tokens of these windows.
_LENGTH = 128
_WINDOWS = (CODING, REPEATS, ONE_TOKEN)


@dataclass(frozen=True, eq=False)
class Source:
    """What packages are made of.

    Attributes:
        network: the published network, or its cured equal.
        re_authored: how what is traced agrees with the published network.
        cures: names of what was done to its weights.
    """

    network: ReferenceEncoder
    re_authored: GateResult
    cures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One precision to try.

    Attributes:
        fp32_modules: parts of the network in fp32.
        chosen: "fp16", "prefix", "mixed" or "fp32".
        least: the verdict that ends the search.
        limits: modules that limit fp16, where that was measured.
    """

    source: Source
    fp32_modules: tuple[str, ...]
    chosen: str
    reason: str
    least: Verdict = "expected"
    limits: tuple[Limit, ...] = ()

    @property
    def message(self) -> str:
        """What is about to be converted, for people."""
        parts = "all" if self.fp32_modules == EVERYTHING else ", ".join(self.fp32_modules)
        cures = "".join(f", {cure}" for cure in self.source.cures)
        return f"Converting ({parts} in fp32{cures})" if parts else f"Converting (fp16{cures})"

    @property
    def package(self) -> Hashable:
        """Equal for candidates whose packages are the same."""
        return self.source, self.fp32_modules

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the search ends with a package of this verdict."""
        return verdict in ("expected", self.least)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "chosen": self.chosen,
            "reason": self.reason,
            "cures": list(self.source.cures),
            "fp32_modules": list(self.fp32_modules),
            "limited_by": [limit.as_dict() for limit in self.limits],
        }


def candidates(
    source: Source,
    golden: Golden,
    options: BuildOptions,
    scales: Scales,
    on_progress: OnProgress,
) -> Iterator[Candidate]:
    """Precisions to try; the last one stands or falls by its own figures.

    Args:
        source: the published network, as re-authored.
    """
    if options.precision == "fp32":
        yield Candidate(source, EVERYTHING, "fp32", "asked for")
    elif options.precision == "fp16" or options.compressed:
        yield Candidate(source, (), "fp16", "asked for")
    elif options.layout == "published":  # it has no parts to choose from
        yield Candidate(source, (), "fp16", "no gate refuses it", least="flagged")
        yield Candidate(source, EVERYTHING, "fp32", "fp16 is refused")
    else:
        search = _Search(source, golden, options, scales, on_progress)
        yield from search.mixed() if options.precision == "mixed" else search.engine_first()


class _Search:
    """The ways from fp16 to fp32, by what emulation says."""

    def __init__(
        self,
        source: Source,
        golden: Golden,
        options: BuildOptions,
        scales: Scales,
        on_progress: OnProgress,
    ) -> None:
        self._source = source
        self._golden = golden
        self._options = options
        self._scales = scales
        self._on_progress = on_progress
        self._windows = [
            golden.input_ids[index : index + 1, : min(golden.n_tokens(index), _LENGTH)]
            for index in map(golden.index, _WINDOWS)
        ]

    def engine_first(self) -> Iterator[Candidate]:
        """What keeps the Neural Engine, as long as any of it is published."""
        yield Candidate(self._source, (), "fp16", "every gate passes as expected")
        emulated = self._emulated(self._source)
        found = limits(emulated, self._advance("Looking for what limits fp16"))
        source, estimate = self._cured(emulated.estimate())
        del emulated  # a copy of the weights, which nobody needs while a package is built
        if source.cures and estimate.meets_gates(-MARGIN_DB):
            reason = "with cures every gate passes as expected"
            yield Candidate(source, (), "fp16", reason, limits=found)
        for prefix in short_prefixes(self._emulated(source)):
            reason = f"fp16 would blur {', '.join(prefix)}"
            yield Candidate(source, prefix, "prefix", reason, limits=found)
        reason = "a short fp32 prefix is not enough; --precision mixed gives up some of the engine"
        for flagged in dict.fromkeys((source, self._source)):
            yield Candidate(flagged, (), "fp16", reason, least="flagged", limits=found)
        for candidate in self.mixed(source):
            yield replace(candidate, reason=f"fp16 is refused; {candidate.reason}", limits=found)

    def mixed(self, source: Source | None = None) -> Iterator[Candidate]:
        """The least fp32 that makes every gate pass as expected, wherever it lies."""
        source = source or self._source
        emulated = self._emulated(source)
        modules = emulated.modules
        fp32 = least_fp32(emulated, self._advance("Looking for parts that fp16 would blur"))
        del emulated
        if not fp32:
            yield Candidate(source, (), "fp16", "every gate passes as expected")
        elif fp32 != modules:
            yield Candidate(source, fp32, "mixed", f"fp16 would blur {', '.join(fp32)}")
        reason = "less does not pass every gate as expected"
        yield Candidate(source, EVERYTHING, "fp32", reason)

    def _cured(self, plain: Estimate) -> tuple[Source, Estimate]:
        """The source with the cures that help, and what it is expected to reach."""
        cure = family_of(self._source.network.config).cure
        if cure is None:
            return self._source, plain
        windows = [torch.from_numpy(ids.astype(np.int64)) for ids in self._windows]
        network = cure.apply(self._source.network, windows)
        try:
            gate = check_re_authored(network, self._golden, self._options, self._scales)
        except FidelityError:  # what was taken out is so large that fp32 itself lost the rest
            return self._source, plain
        cured = Source(network, gate, (cure.name,))
        estimate = self._emulated(cured).estimate()
        if estimate.everything.psnr < plain.everything.psnr + GAIN_DB:
            return self._source, plain
        return cured, estimate

    def _emulated(self, source: Source) -> Emulated:
        input_ids = np.full((len(self._windows), _LENGTH), self._golden.pad_id, np.int32)
        for row, ids in zip(input_ids, self._windows, strict=True):
            row[: ids.shape[1]] = ids[0]
        # Rows that are looked up on the host are rounded to fp16 as those of the graph.
        options = self._options.model_copy(update={"embedding": "graph"})
        network = re_authored(source.network, _LENGTH, options, self._scales)
        return Emulated(network, input_ids, self._truths(), source.network.config.window)

    def _truths(self) -> list[NDArray[np.float32]]:
        with torch.no_grad():
            return [
                self._source.network(torch.from_numpy(ids.astype(np.int64)))[0].numpy()
                for ids in self._windows
            ]

    def _advance(self, message: str) -> Progress:
        return lambda fraction: self._on_progress("read", fraction, message)
