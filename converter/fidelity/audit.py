"""The largest activations of a package, by layer and type of operation."""

import math

from torch import Tensor

from converter.fidelity.report import LIMITS, Activation
from converter.network.neural_attention import MASK_VALUE
from converter.package.program import Function

# Far below any score, and above what a mask makes of one.
_MASKED = MASK_VALUE / 2


class Audit:
    """Watches a package's longest function while it executes a window.

    Args:
        n_tokens: real rows of the window; the function's other rows are padding.
        norms_before_layers: of `EncoderConfig`; each layer has two more.
    """

    def __init__(
        self, function: Function, *, length: int, n_tokens: int, norms_before_layers: int
    ) -> None:
        self._length = length
        self._n_tokens = n_tokens
        self._types = {output.name: op.type for op in function.operations for output in op.outputs}
        self._norms_before_layers = norms_before_layers
        self._norms = 0
        self._found: dict[tuple[str, str], Activation] = {}

    def observe(self, name: str, value: Tensor) -> None:
        """To be called with each operation's output, in order."""
        kind = self._types.get(name, "")
        self._norms += kind == "layer_norm"
        # The mask, or a scalar.
        if not value.is_floating_point() or value.numel() <= self._length:
            return
        if value.ndim == 4 and value.shape[-1] == value.shape[1] == self._length:
            value = value[:, : self._n_tokens]  # scores of padding hold the mask
        elif value.ndim == 4 and value.shape[2] > 1:  # so do those of what is out of reach
            value = value[value > _MASKED]
        layer = (self._norms - self._norms_before_layers) // 2
        label = "embedding" if layer < 0 else str(layer)
        largest = float(value.abs().max())
        if math.isnan(largest):  # compares as neither larger nor smaller: it must not get lost
            largest = math.inf
        known = self._found.get((label, kind))
        if known is None or largest > known.largest:
            exceeds = tuple(limit for limit, bound in LIMITS.items() if not largest < bound)
            self._found[label, kind] = Activation(label, kind, name, round(largest, 3), exceeds)

    def activations(self) -> tuple[Activation, ...]:
        """What was seen, by layer, largest first."""
        return tuple(
            sorted(
                self._found.values(),
                key=lambda a: (a.layer != "embedding", a.layer.zfill(3), -a.largest),
            )
        )
