"""Choices of the converter that change the package: their values, defaults and meanings.

The command line and the manifest read them here. What is measured is no choice; it stands in
`network.neural_engine.Scales`. No torch in here.
"""

import platform
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from converter.errors import GenaError

Target = Literal["macos15", "macos14"]

# Beside the whole window, where a package can have several lengths.
_SHORTER = (128, 256, 512)


class BuildOptions(BaseModel):
    """What a person chooses about a package; field names are the command line's options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target = Field(
        "macos15",
        description="macos15: lengths from 128 tokens to the model's window, sharing weights; "
        "macos14: that window alone",
    )
    embedding: Literal["graph", "host"] = Field("graph", description="where tokens are looked up")
    ffn_chunks: int = Field(1, description="feed-forward in N chunks")
    layout: Literal["neural-engine", "published"] = Field(
        "neural-engine",
        description="published: the network as it is, the baseline to measure against",
    )
    precision: Literal["auto", "mixed", "fp16", "fp32"] = Field(
        "auto",
        description="auto: fp16, with the cures and the short fp32 prefix that fidelity asks for; "
        "mixed: fp32 wherever it buys a few dB, which costs the Neural Engine",
    )
    weights: Literal["fp16", "int8", "palettized6"] = Field(
        "fp16", description="compressed weights are smaller and less faithful"
    )

    @property
    def macos(self) -> int:
        """Oldest macOS that runs the package."""
        return int(self.target.removeprefix("macos"))

    def lengths(self, window: int) -> tuple[int, ...]:
        """Fixed lengths of the package in tokens, ascending, for a model with this window."""
        shorter = _SHORTER if self.target != "macos14" else ()
        return (*(length for length in shorter if length < window), window)

    def functions(self, window: int) -> dict[int, str]:
        """Length in tokens -> name of the package's function for it."""
        return function_names(self.lengths(window))

    @property
    def compressed(self) -> bool:
        """Whether weights lose more than fp16 loses, on request."""
        return self.weights != "fp16"

    def require_sensible(self) -> None:
        """Raises GenaError: no checkpoint goes with these options."""
        if self.ffn_chunks < 1:
            raise GenaError(f"--ffn-chunks {self.ffn_chunks}: expected 1 or more.")

    def require_possible(self, intermediate_size: int) -> None:
        """Raises GenaError: the options contradict each other, or the network's feed-forward."""
        self.require_sensible()
        if intermediate_size % self.ffn_chunks:
            raise GenaError(
                f"The {intermediate_size} channels of the feed-forward do not divide into "
                f"{self.ffn_chunks} chunks (--ffn-chunks)."
            )
        if self.layout == "published" and (self.embedding == "host" or self.ffn_chunks > 1):
            raise GenaError(
                "The published layout is the network as it is: it goes without --embedding host "
                "and --ffn-chunks."
            )


def function_names(lengths: Sequence[int]) -> dict[int, str]:
    """MIL function for each length; a package of one length has Core ML's usual `main`."""
    if len(lengths) == 1:
        return {lengths[0]: "main"}
    return {length: f"length_{length}" for length in sorted(lengths)}


def macos_here() -> int | None:
    """The major version of this macOS; None elsewhere."""
    return int(platform.mac_ver()[0].partition(".")[0]) if sys.platform == "darwin" else None


def target_here() -> Target:
    """The newest target that runs on this Mac; off macOS the newest of all."""
    version = macos_here()
    return "macos14" if version is not None and version < 15 else "macos15"
