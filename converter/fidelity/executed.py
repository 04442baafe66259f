"""A package executed on the verification windows."""

import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.fidelity.gates import psnr
from converter.fidelity.golden import Golden
from converter.mil.executor import Arithmetic, Observer, PackageExecutor
from converter.network.reference import ReferenceEncoder
from converter.package.interface import OUTPUT, PackageInterface

Progress = Callable[[float], None]
# Hidden states of the real tokens, (n, H), by the window's name and the package's length.
Results = dict[tuple[str, int], NDArray[Any]]


class Executed:
    """A package, executed on the verification windows."""

    def __init__(
        self, executor: PackageExecutor, interface: PackageInterface, golden: Golden
    ) -> None:
        self.interface = interface
        self.golden = golden
        self._executor = executor
        interface.require_functions(executor.functions)

    def with_arithmetic(self, arithmetic: Arithmetic) -> "Executed":
        """The same, executed otherwise; weights are shared."""
        executor = self._executor.with_arithmetic(arithmetic)
        return Executed(executor, self.interface, self.golden)

    def lengths_for(self, index: int) -> list[int]:
        """The package's lengths that a window fits."""
        n_tokens = self.golden.n_tokens(index)
        return [length for length in self.interface.lengths if length >= n_tokens]

    def longest_that_fits(self) -> str:
        """The window with the most tokens among those that every length holds."""
        counts = {name: self.golden.n_tokens(i) for i, name in enumerate(self.golden.names)}
        shortest = self.interface.lengths[0]
        fitting = {name: n for name, n in counts.items() if n <= shortest} or counts
        return max(fitting, key=fitting.__getitem__)

    def run(self, index: int, length: int, observe: Observer | None = None) -> NDArray[Any]:
        """Hidden states (L, H) of a window, padding included."""
        input_ids = np.ascontiguousarray(self.golden.input_ids[index : index + 1, :length])
        outputs = self._executor.predict(
            self.interface.inputs(input_ids), self.interface.function(length), observe
        )
        features: NDArray[Any] = outputs[OUTPUT][0]
        return features

    def features(self, index: int, length: int, observe: Observer | None = None) -> NDArray[Any]:
        """Hidden states of the real tokens, (n, H)."""
        return self.run(index, length, observe)[: self.golden.n_tokens(index)].copy()

    def results(
        self,
        at_every_length: Collection[str],
        progress: Progress,
        observers: Mapping[str, Observer] = MappingProxyType({}),
    ) -> Results:
        """Every window at the shortest length that holds it, and these at all that do.

        Args:
            observers: who watches which window.
        """
        found: Results = {}
        for index, name in enumerate(self.golden.names):
            lengths = self.lengths_for(index)
            for length in lengths if name in at_every_length else lengths[:1]:
                found[name, length] = self.features(index, length, observers.get(name))
            progress((index + 1) / len(self.golden.names))
        return found

    def shortest(self, names: Collection[str]) -> Results:
        """These windows at the shortest length that holds them."""
        found: Results = {}
        for name in names:
            index = self.golden.index(name)
            length = self.lengths_for(index)[0]
            found[name, length] = self.features(index, length)
        return found

    def states(self, reference: ReferenceEncoder) -> dict[str, float]:
        """PSNR of the value in the package that is closest to each of the reference's states.

        A package does not say which value is a layer's output; the closest one is.
        """
        index, n = 0, self.golden.n_tokens(0)
        ids = torch.from_numpy(self.golden.input_ids[index : index + 1, :n].astype(np.int64))
        with torch.no_grad():
            truth = [state[0].numpy() for state in reference.hidden_states(ids)]
        best = [-math.inf] * len(truth)

        def closest(_name: str, value: Tensor) -> None:
            rows = _rows(value, truth[0].shape[1])
            if rows is None:
                return
            for i, state in enumerate(truth):
                best[i] = max(best[i], psnr(state, rows[:n]))

        self.run(index, self.lengths_for(index)[0], closest)
        names = ["embedding", *(str(i) for i in range(reference.config.num_hidden_layers))]
        names += ["last norm"] * (len(truth) - len(names))
        return dict(zip(names, best, strict=True))


def _rows(value: Tensor, hidden_size: int) -> NDArray[Any] | None:
    """A value as (L, H), if it is activations of the whole width."""
    if value.ndim == 4 and value.shape[:3] == (1, hidden_size, 1):
        return value[0, :, 0].T.numpy()
    if value.ndim == 3 and value.shape[0] == 1 and value.shape[2] == hidden_size:
        return value[0].numpy()
    return None
