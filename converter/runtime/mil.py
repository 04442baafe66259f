"""The executor behind the runtime seam: a bundle's package computed with PyTorch, anywhere."""

import numpy as np
import torch
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.mil.executor import PackageExecutor
from converter.runtime.padded import PaddedRuntime


class MilRuntime(PaddedRuntime):
    """Predictions by the executor, operation by operation on the CPU.

    Args:
        threads: of PyTorch, for the whole process; as many as there are cores when None.
    """

    name = "mil"
    compute_units = "cpu"
    compute = "fp32"
    device_checks = None

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        super().__init__(bundle.interface)
        with bundle.reading_package() as package:
            self._executor = PackageExecutor(package)
        self._package.require_functions(self._executor.functions)

    def predict_padded(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `PaddedRuntime`."""
        inputs = self._package.inputs(input_ids)
        function = self._package.function(input_ids.shape[1])
        return self._package.features(input_ids, self._executor.predict(inputs, function))
