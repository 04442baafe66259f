"""Conversions of small checkpoints: how they are altered, and what their bundles are worth."""

from pathlib import Path

import numpy as np
import torch

from converter.bundle.opening import Bundle
from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from converter.options import BuildOptions
from converter.runtime.loading import load_runtime

BIN = "pytorch_model.bin"
ONE_LENGTH = BuildOptions(target="macos14")
GATES = (
    "re-authored network, fp32",
    "package, fp32 arithmetic",
    "package, every operation in fp16",
    "package, lengths agree",
    "torch runtime against the executed package",
)


def verdicts(bundle: Bundle) -> dict[str, str]:
    """Of each gate, by its name."""
    return {g["gate"]: g["verdict"] for g in bundle.manifest.fidelity["gates"]}


def edit(folder: Path, **factors: float) -> None:
    """Multiply tensors of a checkpoint's file; names with "__" for dots."""
    tensors = torch.load(folder / BIN)
    for name, factor in factors.items():
        tensors["bert." + name.replace("__", ".")] *= factor
    torch.save(tensors, folder / BIN)


def decibels(reference: np.ndarray, result: np.ndarray) -> float:
    """PSNR, written down again: not the converter's own."""
    error = np.sqrt(np.mean((reference.astype(np.float64) - result) ** 2))
    return float(20 * np.log10(np.abs(reference).max() / error))


def served_agreement(bundle: Bundle, checkpoint: Path) -> float:
    """The worst window of the bundle, as the service runs it, against the checkpoint's network."""
    network = load_checkpoint(find_checkpoint(str(checkpoint))).encoder()
    tokenizer = bundle.tokenizer()
    runtime = load_runtime(bundle, runtime="mil", threads=1)
    worst = np.inf
    for bases, length in (("ACGT" * 30, runtime.lengths[0]), ("GATTACA" * 300, 512)):
        window = tokenizer.window(tokenizer.encode(bases).ids[:510])
        (features,) = runtime.predict([window])
        assert len(window) <= length
        with torch.no_grad():
            expected = network(torch.from_numpy(window[None]).long())[0].numpy()
        worst = min(worst, decibels(expected, features))
    return worst
