"""The instruments, on programs whose figures can be worked out by hand."""

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813

from converter.errors import PackageError
from converter.package.inspection import inspect_package
from tests.support.mil_packages import HIDDEN, INNER, TOKENS, feed_forward, half, save_program


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return save_program(tmp_path, {"x": half(1, HIDDEN, 1, TOKENS)}, feed_forward)


def test_peak_counts_what_is_read_written_and_still_needed(package: Path) -> None:
    peak = inspect_package(package).functions["main"].peak
    assert peak is not None
    # At the gelu: its input and output, and x for the residual; 2 bytes each.
    assert peak.bytes == 2 * TOKENS * (2 * INNER + HIDDEN)
    assert (peak.operation, peak.type) == ("gelu", "gelu")
    assert [value.bytes for value in peak.alive] == [2 * TOKENS * n for n in (INNER, INNER, HIDDEN)]


def test_the_published_layout_of_bert_base_peaks_at_13_5_mib(tmp_path: Path) -> None:
    """Batched scores, twice, with the residual and the values."""
    heads, tokens, width = 12, 512, 64

    def attention(x: Any, query: Any, key: Any, value: Any) -> Any:
        scores = mb.matmul(x=query, y=key, transpose_y=True)
        mixed = mb.matmul(x=mb.softmax(x=scores, name="softmax"), y=value)
        rows = mb.transpose(x=mixed, perm=[0, 2, 1, 3])
        return mb.add(x=x, y=mb.reshape(x=rows, shape=[1, tokens, heads * width]))

    inputs = {"x": half(1, tokens, heads * width)}
    inputs |= {name: half(1, heads, tokens, width) for name in ("query", "key", "value")}
    report = inspect_package(save_program(tmp_path, inputs, attention)).functions["main"]
    assert report.peak is not None
    # Scores in and out 6 MiB each, x and value 0.75 each.
    assert report.peak.bytes == 13.5 * 2**20
    assert report.peak.operation == "softmax"
    assert report.floating_point_operations == {"matmul": 2 * 2 * heads * tokens**2 * width}


def test_arithmetic_weights_and_operations(package: Path) -> None:
    report = inspect_package(package)
    function = report.functions["main"]
    assert function.floating_point_operations == {"conv": 2 * 2 * TOKENS * HIDDEN * INNER}
    assert function.operations == {"conv": 2, "gelu": 1, "add": 1}
    assert function.weight_bytes == {"fp16": 2 * (2 * HIDDEN * INNER + INNER)}
    assert report.weight_bytes == function.weight_bytes
    assert report.disk_bytes > report.weight_bytes["fp16"]
    assert [(v.name, v.type) for v in function.inputs] == [("x", "fp16(1, 64, 1, 32)")]
    assert function.engine.segments == 1
    assert function.findings == ()


@pytest.mark.parametrize(
    ("shapes", "body", "expected"),
    [
        (
            [(2, 5, 3, 4), (2, 4, 3, 6)],
            lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
            {"einsum": 2 * (2 * 5 * 3 * 6) * 4},
        ),
        (
            [(4, 3), (2, 5, 4)],
            lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
            {"matmul": 2 * (2 * 3 * 5) * 4},
        ),
        (
            [(7, 4)],
            lambda x: mb.linear(x=x, weight=half(3, 4), bias=half(3)),
            {"linear": 2 * (7 * 3) * 4},
        ),
        (
            [(1, 4, 6, 6)],
            lambda x: mb.conv(x=x, weight=half(8, 2, 3, 3), groups=2),
            {"conv": 2 * (8 * 4 * 4) * (2 * 3 * 3)},
        ),
        (
            [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 6)],
            lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            {"scaled_dot_product_attention": 2 * (2 * 3 * 5) * (4 + 6)},
        ),
    ],
)
def test_floating_point_operations(
    shapes: list[tuple[int, ...]], body: Any, expected: dict[str, int], tmp_path: Path
) -> None:
    inputs = {f"input_{place}": half(*shape) for place, shape in enumerate(shapes)}
    report = inspect_package(save_program(tmp_path, inputs, body)).functions["main"]
    assert report.floating_point_operations == expected


def test_shared_weights_count_once(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float16)
    descriptor = ct.utils.MultiFunctionDescriptor()
    for length in (2, 4):
        part = save_program(
            tmp_path / str(length),
            {"x": half(1, length, 64)},
            lambda x: mb.linear(x=x, weight=weight),
        )
        descriptor.add_function(str(part), "main", f"length_{length}")
    descriptor.default_function_name = "length_4"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "merged.mlpackage"))
    report = inspect_package(tmp_path / "merged.mlpackage")
    assert list(report.functions) == ["length_2", "length_4"]
    assert report.default_function == report.costliest.name == "length_4"
    sizes = [function.weight_bytes["fp16"] for function in report.functions.values()]
    assert report.weight_bytes["fp16"] == sizes[0] == sizes[1]


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"not an \.mlpackage"):
        inspect_package(tmp_path)
