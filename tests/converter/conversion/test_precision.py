"""The parts that the search names are those that need fp32, and fp32 there cures."""

from pathlib import Path

import numpy as np
import pytest

from converter.conversion.precision import (
    Estimate,
    arithmetic,
    least_fp32,
    limits,
    short_prefixes,
)
from converter.fidelity.gates import Figures
from converter.package.inspection import inspect_package
from tests.support.fp16_networks import (
    LENGTH,
    build,
    emulated_of,
    execute_both,
    make_reference,
    sensitive_reference,
)

FIRST_ATTENTION = ("embedding_stage", "blocks.0.attention_norm", "blocks.0.attention")


def test_outliers_need_a_few_parts_in_fp32_and_those_cure_them(tmp_path: Path) -> None:
    reference = make_reference(outliers=20)
    emulated = emulated_of(reference)
    chosen = least_fp32(emulated)
    assert not emulated.estimate().meets_gates()
    assert 0 < len(chosen) <= len(emulated.modules) // 2
    # In program order, as they stand in the manifest.
    assert list(chosen) == [module for module in emulated.modules if module in chosen]
    package = build(reference, tmp_path / "p.mlpackage", chosen)
    (found,) = execute_both(reference, package, [1])
    assert found.meets_gates(margin=0)


def test_ordinary_weights_need_no_fp32_and_nothing_limits_them() -> None:
    emulated = emulated_of(make_reference())
    assert least_fp32(emulated) == ()
    assert limits(emulated) == ()


def test_where_nothing_less_will_do_it_is_everything() -> None:
    emulated = emulated_of(make_reference(outliers=200))
    assert least_fp32(emulated) == emulated.modules
    assert list(short_prefixes(emulated)) == []


def test_a_sensitive_start_gets_a_prefix_and_the_rest_is_one_segment(tmp_path: Path) -> None:
    reference = sensitive_reference()
    emulated = emulated_of(reference)
    assert not emulated.estimate().meets_gates()
    *_, longest = short_prefixes(emulated)
    assert longest == FIRST_ATTENTION
    package = build(reference, tmp_path / "p.mlpackage", longest)
    (found,) = execute_both(reference, package, [1])
    assert found.meets_gates(margin=0)
    share = inspect_package(package).functions["main"].engine
    assert share.segments == 1
    assert 0 < share.floating_point_operations_off < 0.1 * share.floating_point_operations


def test_what_limits_fp16_is_named_the_worst_first() -> None:
    found = limits(emulated_of(sensitive_reference()))
    assert {limit.module for limit in found} == set(FIRST_ATTENTION)
    assert [limit.psnr for limit in found] == sorted(limit.psnr for limit in found)
    assert found[-1].psnr < 70


def test_a_prefix_is_no_longer_than_its_share_of_the_arithmetic() -> None:
    """With two layers a block's attention is a quarter of everything."""
    reference = make_reference(outliers=20)
    assert all(
        "blocks.0.attention" not in found for found in short_prefixes(emulated_of(reference))
    )


def test_the_arithmetic_of_the_modules_is_that_of_the_package(tmp_path: Path) -> None:
    reference = make_reference(num_hidden_layers=1)
    emulated = emulated_of(reference)
    counted = inspect_package(build(reference, tmp_path / "p.mlpackage")).functions["main"].engine
    assert counted.floating_point_operations == sum(
        arithmetic(emulated.network, module, LENGTH) for module in emulated.modules
    )


@pytest.mark.parametrize(
    ("weights", "everything", "meets"),
    [(62, 62, True), (61.9, 80, False), (90, 61.9, False), (72, -np.inf, False)],
)
def test_gates_keep_a_margin(weights: float, everything: float, meets: bool) -> None:
    def at(psnr: float) -> Figures:
        return Figures(psnr, 1.0, bool(np.isfinite(psnr)))

    assert Estimate(at(weights), at(everything)).meets_gates() is meets


def test_progress_ends_at_one() -> None:
    for search in (least_fp32, limits):
        seen: list[float] = []
        search(emulated_of(make_reference(outliers=20)), seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1
