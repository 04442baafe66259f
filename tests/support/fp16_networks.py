"""Small networks, a window of tokens, and what fp16 does to them: emulated, and executed."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converter.conversion.build import PackagePlan, build_package
from converter.conversion.emulation import emulate
from converter.conversion.precision import Emulated, Estimate
from converter.fidelity.gates import Figures, compare
from converter.mil.executor import PackageExecutor
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.neural_engine import re_author
from converter.network.gena_bert.reference import GenaEncoder
from converter.network.neural_engine import NeuralEngineEncoder, Scales
from converter.options import BuildOptions
from tools.seeded_checkpoints import config_dict, random_weights

LENGTH, N_TOKENS = 128, 100


def make_reference(outliers: float = 1, **changes: Any) -> GenaEncoder:
    """Seeded random weights, two layers of 64 unless changed."""
    config = GenaBertConfig.from_dict(config_dict(**changes))
    network = GenaEncoder(config)
    network.load_state_dict(random_weights(config, outliers=outliers))
    return network.eval().requires_grad_(False)


def sharpen_first_attention(reference: GenaEncoder) -> GenaEncoder:
    """Scores of the first block a hundred times larger: fp16 rounds them, the rest is ordinary."""
    first: Any = reference.encoder.layer[0]
    first.attention.self.query.weight.mul_(100)
    return reference


def sensitive_reference() -> GenaEncoder:
    """Its first block's attention needs fp32 and is less than 10 % of the arithmetic."""
    return sharpen_first_attention(
        make_reference(num_hidden_layers=3, num_attention_heads=1, intermediate_size=2048)
    )


def window(seed: int = 1) -> Tensor:
    """(1, LENGTH) int32 ids, of which N_TOKENS are no padding."""
    ids = torch.full((1, LENGTH), 3, dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    ids[0, :N_TOKENS] = torch.randint(5, 400, (N_TOKENS,), generator=generator).int()
    return ids


def truth_of(reference: GenaEncoder, seed: int = 1) -> Tensor:
    """The reference's hidden states (1, N_TOKENS, H) of a window."""
    hidden: Tensor = reference(window(seed)[:, :N_TOKENS].long())
    return hidden


def network_of(reference: GenaEncoder) -> NeuralEngineEncoder:
    """As it is traced."""
    return re_author(reference, LENGTH, BuildOptions(), Scales()).eval()


def emulated_of(reference: GenaEncoder) -> Emulated:
    """On one window."""
    truths = [truth_of(reference)[0].numpy()]
    return Emulated(network_of(reference), window().numpy(), truths, reference.config.window)


def figures(truth: Tensor, features: Any) -> Figures:
    """Of the real tokens."""
    return compare(truth[0].numpy(), np.asarray(features)[0, :N_TOKENS])


def emulate_both(reference: GenaEncoder, fp16_modules: Collection[str], seed: int = 1) -> Estimate:
    """With these modules in fp16, on one window."""
    network, truth = network_of(reference), truth_of(reference, seed)
    weights, everything = (
        figures(truth, emulate(network, (window(seed),), fp16_modules, round_operations=rounding))
        for rounding in (False, True)
    )
    return Estimate(weights, everything)


def build(reference: GenaEncoder, package: Path, fp32_modules: tuple[str, ...] = ()) -> Path:
    """A package of one length."""
    plan = PackagePlan(fp32_modules=fp32_modules)
    options = BuildOptions(target="macos14")
    build_package(reference, options, plan, package, lengths=(LENGTH,))
    return package


def execute_both(reference: GenaEncoder, package: Path, seeds: Iterable[int]) -> list[Estimate]:
    """What a built package reaches on each window."""
    exact, rounded = (PackageExecutor(package, arithmetic=a) for a in ("fp32", "fp16"))
    found = []
    for seed in seeds:
        truth, inputs = truth_of(reference, seed), {"input_ids": window(seed).numpy()}
        one, other = (
            figures(truth, executor.predict(inputs)["features"]) for executor in (exact, rounded)
        )
        found.append(Estimate(one, other))
    return found
