"""What the search for fp32 parts foretells is what the built package then does."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converter.conversion.build import PackagePlan, build_package
from converter.conversion.precision import (
    choose_fp32_modules,
    emulate,
    meets_gates,
    precision_modules,
)
from converter.fidelity.gates import Figures, compare
from converter.mil.executor import PackageExecutor
from converter.network.config import EncoderConfig
from converter.network.neural_engine import NeuralEngineEncoder
from converter.network.reference import GenaEncoder
from converter.options import BuildOptions
from tools.seeded_checkpoints import config_dict, random_weights

LENGTH, N_TOKENS = 128, 100


def make_reference(outliers: float = 1, **changes: Any) -> GenaEncoder:
    config = EncoderConfig.from_dict(config_dict(**changes))
    network = GenaEncoder(config)
    network.load_state_dict(random_weights(config, outliers=outliers))
    return network.eval().requires_grad_(False)


def window(seed: int = 1) -> Tensor:
    ids = torch.full((1, LENGTH), 3, dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    ids[0, :N_TOKENS] = torch.randint(5, 400, (N_TOKENS,), generator=generator).int()
    return ids


def truth_of(reference: GenaEncoder, seed: int = 1) -> Tensor:
    return reference(window(seed)[:, :N_TOKENS].long())


def figures(truth: Tensor, features: Any) -> Figures:
    return compare(truth[0].numpy(), np.asarray(features)[0, :N_TOKENS])


def build(reference: GenaEncoder, package: Path, fp32_modules: tuple[str, ...] = ()) -> Path:
    options = BuildOptions(target="macos14")
    plan = PackagePlan(fp32_modules=fp32_modules)
    build_package(reference, options, plan, package, lengths=(LENGTH,))
    return package


def executed(
    reference: GenaEncoder, package: Path, seeds: Iterable[int]
) -> list[tuple[Figures, Figures]]:
    """For each window: with fp16 weights only, and with every operation in fp16."""
    exact, rounded = (PackageExecutor(package, arithmetic=a) for a in ("fp32", "fp16"))
    found = []
    for seed in seeds:
        truth, inputs = truth_of(reference, seed), {"input_ids": window(seed).numpy()}
        one, other = (
            figures(truth, executor.predict(inputs)["features"]) for executor in (exact, rounded)
        )
        found.append((one, other))
    return found


def emulated(reference: GenaEncoder, fp16_modules: Any, seed: int = 1) -> tuple[Figures, Figures]:
    network = NeuralEngineEncoder(reference, LENGTH, BuildOptions()).eval()
    truth = truth_of(reference, seed)
    weights, everything = (
        figures(truth, emulate(network, (window(seed),), fp16_modules, round_operations=rounding))
        for rounding in (False, True)
    )
    return weights, everything


def choose(reference: GenaEncoder) -> tuple[NeuralEngineEncoder, tuple[str, ...]]:
    network = NeuralEngineEncoder(reference, LENGTH, BuildOptions()).eval()
    return network, choose_fp32_modules(network, (window(),), truth_of(reference), N_TOKENS)


@pytest.mark.parametrize(
    ("changes", "outliers"),
    [({"pre_layer_norm": True, "last_layer_norm": True}, 1), ({"pre_layer_norm": False}, 20)],
    ids=["pre-LN", "post-LN with outliers"],
)
def test_the_emulation_is_what_a_package_does(
    changes: dict[str, Any], outliers: float, tmp_path: Path
) -> None:
    """On average over windows: with outliers, one rounded score more or less moves a window's
    figure by several dB either way."""
    reference = make_reference(outliers, **changes)
    modules = precision_modules(NeuralEngineEncoder(reference, LENGTH, BuildOptions()))
    package = build(reference, tmp_path / "p.mlpackage")
    seeds = range(12)
    foretold = [emulated(reference, modules, seed) for seed in seeds]
    found = executed(reference, package, seeds)
    for kind in (0, 1):
        mean_foretold = np.mean([pair[kind].psnr for pair in foretold])
        mean_found = np.mean([pair[kind].psnr for pair in found])
        assert abs(mean_foretold - mean_found) < 2


def test_outliers_need_a_few_parts_in_fp32_and_those_cure_them(tmp_path: Path) -> None:
    reference = make_reference(outliers=20)
    network, chosen = choose(reference)
    modules = precision_modules(network)
    assert not meets_gates(*emulated(reference, modules))
    assert 0 < len(chosen) <= len(modules) // 2
    # In program order, as they stand in the manifest.
    assert list(chosen) == [module for module in modules if module in chosen]
    package = build(reference, tmp_path / "p.mlpackage", chosen)
    ((exact, rounded),) = executed(reference, package, [1])
    assert exact.psnr >= 70
    assert rounded.psnr >= 60


def test_ordinary_weights_need_no_fp32() -> None:
    assert choose(make_reference())[1] == ()


def test_where_nothing_less_will_do_it_is_everything() -> None:
    network, chosen = choose(make_reference(outliers=200))
    assert chosen == precision_modules(network)


def test_the_modules_are_those_of_the_graph_in_program_order() -> None:
    pre = NeuralEngineEncoder(
        make_reference(last_layer_norm=True, num_hidden_layers=1), 16, BuildOptions()
    )
    assert precision_modules(pre) == (
        "embedding_stage",
        "blocks.0.attention_norm",
        "blocks.0.attention",
        "blocks.0.feed_forward_norm",
        "blocks.0.feed_forward",
        "blocks.0",
        "last_norm",
    )


def test_nothing_in_fp16_is_the_network_itself() -> None:
    network = NeuralEngineEncoder(make_reference(), LENGTH, BuildOptions()).eval()
    with torch.no_grad():
        expected = network(window())
    assert torch.equal(emulate(network, (window(),), (), round_operations=True), expected)


def test_the_network_is_left_as_it_was() -> None:
    network = NeuralEngineEncoder(make_reference(), LENGTH, BuildOptions()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = network(window())
    modules = precision_modules(network)
    rounded = emulate(network, (window(),), modules, round_operations=True)
    assert not torch.equal(rounded, expected)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with torch.no_grad():
        assert torch.equal(network(window()), expected)


def test_weights_alone_do_less_harm_than_every_operation() -> None:
    network = NeuralEngineEncoder(make_reference(), LENGTH, BuildOptions())
    for module in ("blocks.0.attention", "blocks.1.feed_forward", "embedding_stage"):
        weights, everything = emulated(make_reference(), (module,))
        assert everything.psnr <= weights.psnr, module
    weights, everything = emulated(make_reference(), precision_modules(network))
    assert everything.psnr < weights.psnr < 100


def test_gates_keep_a_margin() -> None:
    def at(psnr: float) -> Figures:
        return Figures(psnr, 1.0, True)

    assert meets_gates(at(72), at(62))
    assert not meets_gates(at(71.9), at(80))
    assert not meets_gates(at(90), at(61.9))
    assert not meets_gates(at(72), Figures(-np.inf, -1, False))


def test_progress_ends_at_one() -> None:
    reference = make_reference(outliers=20)
    network = NeuralEngineEncoder(reference, LENGTH, BuildOptions()).eval()
    seen: list[float] = []
    choose_fp32_modules(network, (window(),), truth_of(reference), N_TOKENS, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1
