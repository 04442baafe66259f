"""A bundle's encoder on a CPU or a GPU, where Core ML is not: fast, and proven when it is loaded.

Its weights are those of the bundle's package, so the fingerprint says what answered.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.errors import PredictionError
from converter.fidelity.gates import GateResult, compare, torch_runtime_gate, worst
from converter.fidelity.golden import Golden
from converter.mil.packed_encoder import PackedEncoder
from converter.pooling import Poolings, of_each
from converter.runtime.protocol import Compute, Device, RuntimeUnavailableError

log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Beyond these a CPU computes no faster, and whoever comes next waits longer.
CPU_BATCH_TOKENS = 512
# A GPU gains by all that there are: the setting bounds them.
_GPU_BATCH_TOKENS = 2**17


class TorchRuntime:
    """Predictions by PyTorch, several windows at a time, without padding.

    Args:
        device: "auto" is CUDA where there is any, else the CPU.
        compute: dtype of the products and of attention.
        threads: of PyTorch, for the whole process; as many as there are cores when None.

    Attributes:
        device_checks: how the golden windows agreed with the reference when it was loaded.

    Raises:
        RuntimeUnavailableError: this machine has no such device or cannot compute so on it, or the
            features are not those of the bundle.
        PackageError: the package is laid out otherwise than the encoder is read.
        BundleError: it is not what it was when it was opened.
    """

    name = "torch"
    lengths: tuple[int, ...] = ()

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device = "auto",
        compute: Compute = "fp32",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.compute_units = _usable_device(device, compute)
        self.compute: str = compute
        self.batch_tokens = CPU_BATCH_TOKENS if self.compute_units == "cpu" else _GPU_BATCH_TOKENS
        self._interface = bundle.interface
        with bundle.reading_package() as package:
            self._encoder = PackedEncoder.of_package(
                package,
                self._interface,
                device=self.compute_units,
                compute=_DTYPES[compute],
            )
        check = self._check(bundle, compute)
        self.device_checks = [
            {"device": self.compute_units, "compute": compute, **check.as_dict()},
        ]
        if check.verdict == "refused":
            raise RuntimeUnavailableError(
                f"PyTorch does not give the right features on {self.compute_units} in {compute}: "
                f"{check.sentence()}. Set GENA_RUNTIME=mil to execute the package instead."
            )
        log.info("%s on %s in %s", check.sentence(), self.compute_units, compute)

    def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> list[NDArray[np.float32]]:
        """See `Runtime`."""
        for window in windows:
            self._interface.require_window(window)
        wanted = of_each(poolings, [len(window) for window in windows])
        features = self._encoder.predict(windows, wanted)
        if not all(np.isfinite(each).all() for each in features):
            raise PredictionError("The model gave values that are not finite numbers.")
        return features

    def warm_up(self) -> None:
        """See `Runtime`: it was checked by predictions."""

    def _check(self, bundle: Bundle, compute: Compute) -> GateResult:
        """The golden windows, all at a time, against the reference."""
        golden = Golden.load(bundle.golden(), self._interface.config.pad_token_id)
        counts = [golden.n_tokens(index) for index in range(len(golden.names))]
        windows = [ids[:n] for ids, n in zip(golden.input_ids, counts, strict=True)]
        figures = {
            name: compare(reference[:n], features)
            for name, reference, n, features in zip(
                golden.names, golden.reference, counts, self._encoder.predict(windows), strict=True
            )
        }
        return worst(torch_runtime_gate(bundle.manifest.fidelity, compute), figures)


def _usable_device(device: Device, compute: Compute) -> str:
    """The device to compute on; "auto" is a GPU of NVIDIA's where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailableError(
            "PyTorch finds no CUDA device here. Set GENA_DEVICE to auto or cpu, or install the "
            "PyTorch build for this machine's GPU and driver."
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise RuntimeUnavailableError(
            "PyTorch finds no Metal device here. Set GENA_DEVICE to auto or cpu."
        )
    if device == "cpu" and compute == "fp16":
        raise RuntimeUnavailableError(
            "A CPU gains nothing by fp16. Set GENA_COMPUTE to fp32, or to bf16 where it has that."
        )
    if device == "cpu" and compute == "bf16" and not cpu_has_bf16():
        raise RuntimeUnavailableError(
            "PyTorch does not compute in bf16 on this CPU. Set GENA_COMPUTE=fp32."
        )
    return device


def cpu_has_bf16() -> bool:
    """Whether PyTorch computes in bf16 on this CPU; for macOS it is built without what says so."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())
