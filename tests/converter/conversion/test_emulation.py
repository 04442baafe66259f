"""What the emulation of fp16 foretells is what the built package then does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converter.conversion.build import re_authored
from converter.conversion.emulation import emulate, precision_modules
from converter.mil.executor import PackageExecutor
from converter.network.gena_bert.neural_engine import re_author
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from tests.support.fp16_networks import (
    build,
    emulate_both,
    execute_both,
    figures,
    make_reference,
    network_of,
    truth_of,
    window,
)
from tests.support.moderngena import make_moderngena_reference, token_ids


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
    modules = precision_modules(network_of(reference))
    package = build(reference, tmp_path / "p.mlpackage")
    seeds = range(12)
    foretold = [emulate_both(reference, modules, seed) for seed in seeds]
    found = execute_both(reference, package, seeds)
    for kind in ("weights_only", "everything"):
        mean_foretold, mean_found = (
            np.mean([getattr(estimate, kind).psnr for estimate in estimates])
            for estimates in (foretold, found)
        )
        assert abs(mean_foretold - mean_found) < 2


@pytest.mark.parametrize(
    ("pre_layer_norm", "block"),
    [
        (
            True,
            "attention_norm attention attention_residual "
            "feed_forward_norm feed_forward feed_forward_residual",
        ),
        (
            False,
            "attention attention_residual attention_norm "
            "feed_forward feed_forward_residual feed_forward_norm",
        ),
    ],
    ids=["pre-LN", "post-LN"],
)
def test_the_modules_are_those_of_the_graph_in_the_order_of_computation(
    pre_layer_norm: bool, block: str
) -> None:
    reference = make_reference(
        pre_layer_norm=pre_layer_norm, last_layer_norm=True, num_hidden_layers=1
    )
    assert precision_modules(re_author(reference, 16, BuildOptions(), Scales())) == (
        "embedding_stage",
        *(f"blocks.0.{name}" for name in block.split()),
        "last_norm",
    )


def test_norms_may_be_rounded_inside_as_the_executor_does(tmp_path: Path) -> None:
    reference = make_reference(last_layer_norm=True)
    network, modules = network_of(reference), precision_modules(network_of(reference))
    package = PackageExecutor(build(reference, tmp_path / "p.mlpackage"), arithmetic="fp16-norms")
    found, foretold = [], []
    for seed in range(6):
        truth = truth_of(reference, seed)
        result = emulate(network, (window(seed),), modules, round_operations=True, round_norms=True)
        foretold.append(figures(truth, result).psnr)
        executed = package.predict({"input_ids": window(seed).numpy()})["features"]
        found.append(figures(truth, executed).psnr)
    assert abs(np.mean(found) - np.mean(foretold)) < 2


def test_nothing_in_fp16_is_the_network_itself() -> None:
    network = network_of(make_reference())
    with torch.no_grad():
        expected = network(window())
    assert torch.equal(emulate(network, (window(),), (), round_operations=True), expected)


def test_the_network_is_left_as_it_was() -> None:
    network = network_of(make_reference())
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


def test_windows_may_be_stacked() -> None:
    network = network_of(make_reference())
    modules = precision_modules(network)
    together = emulate(
        network, (torch.cat([window(1), window(2)]),), modules, round_operations=True
    )
    for row, seed in enumerate((1, 2)):
        alone = emulate(network, (window(seed),), modules, round_operations=True)
        torch.testing.assert_close(together[row : row + 1], alone, atol=0.02, rtol=0)


def test_windows_of_a_network_that_looks_a_short_way_may_be_stacked() -> None:
    network = re_authored(make_moderngena_reference(), 128, BuildOptions(), Scales())
    windows = token_ids(128, seed=1).int(), token_ids(90, 128, seed=2).int()
    modules = precision_modules(network)
    together = emulate(network, (torch.cat(windows),), modules, round_operations=True)
    for row, alone_ids in enumerate(windows):
        alone = emulate(network, (alone_ids,), modules, round_operations=True)
        assert torch.equal(together[row : row + 1], alone)


def test_weights_alone_do_less_harm_than_every_operation() -> None:
    for module in ("blocks.0.attention", "blocks.1.feed_forward", "embedding_stage"):
        found = emulate_both(make_reference(), (module,))
        assert found.everything.psnr <= found.weights_only.psnr, module
    found = emulate_both(make_reference(), precision_modules(network_of(make_reference())))
    assert found.everything.psnr < found.weights_only.psnr < 100
