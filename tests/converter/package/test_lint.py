"""Each rule of the lint: a program that breaks it and, where that is subtle, one that does not."""

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813
from torch import nn

from converter.package.graph import Graph
from converter.package.inspection import FunctionReport, inspect_package
from converter.package.lint import RULES, find
from converter.package.program import Function, Operation, Output, TensorType
from tests.support.mil_packages import half, save_program

SQUARE = np.ones((64, 64, 1, 1), np.float16)


def conv(x: Any) -> Any:
    """A matrix operation: what comes after it is the encoder."""
    return mb.conv(x=x, weight=SQUARE)


def report(folder: Path, inputs: dict[str, Any], body: Any) -> FunctionReport:
    return inspect_package(save_program(folder, inputs, body)).functions["main"]


def in_encoder(body: Any) -> Any:
    return lambda x: body(conv(x))


ACTIVATIONS = {"x": half(1, 64, 1, 32)}
# The rule, and what breaks it in the middle of the encoder.
BROKEN = {
    "dtype-island": lambda x: mb.cast(
        x=mb.exp(x=mb.cast(x=x, dtype="fp32"), name="bad"), dtype="fp16"
    ),
    "last-axis-width": lambda x: mb.reshape(x=x, shape=[1, 64, 2, 16], name="bad"),
    "last-axis-alignment": lambda x: mb.concat(
        values=(x, mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 64, 1, 16])),
        axis=-1,
        name="bad",
    ),
    "last-axis-slice": lambda x: mb.split(
        x=mb.transpose(x=x, perm=[0, 3, 2, 1]), split_sizes=[32, 32], axis=-1, name="bad"
    )[1],
    "sdpa": lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x, name="bad"),
    "constant-range": lambda x: mb.add(x=x, y=np.float16(-np.inf), name="bad"),
    "epsilon": lambda x: mb.layer_norm(x=x, axes=[1], epsilon=np.float32(1e-12), name="bad"),
    "gather": lambda x: mb.gather(x=x, indices=np.int32([0, 1, 2]), axis=1, name="bad"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_names_the_operation_and_its_source(rule: str, tmp_path: Path) -> None:
    body = in_encoder(lambda x: mb.relu(x=BROKEN[rule](x)))
    findings = report(tmp_path, ACTIVATIONS, body).findings
    found = [finding for finding in findings if finding.rule == rule]
    assert "bad" in [finding.operation for finding in found]
    assert {finding.stage for finding in found} == {"encoder"}
    assert {finding.source for finding in found} == {RULES[rule].source}


def test_more_than_five_axes() -> None:
    x = TensorType("fp16", (1, 64, 1, 32))
    bad = Output("bad", TensorType("fp16", (1, 2, 2, 16, 1, 32)))
    reshape = Operation("reshape", "bad", {"x": ("x",)}, (bad,))
    (finding,) = find(Graph(Function("main", "CoreML8", {"x": x}, (bad,), (reshape,))))
    assert (finding.rule, finding.operation) == ("rank", "bad")


ALLOWED = {
    "split on channels": lambda x: mb.split(x=x, num_splits=2, axis=1)[1],
    "slice of the last axis from 0": lambda x: mb.slice_by_index(
        x=mb.concat(values=(x, x), axis=-1), begin=[0, 0, 0, 0], end=[1, 64, 1, 32]
    ),
    "a mask that fp16 holds": lambda x: mb.add(x=x, y=np.float16(-1e4)),
    "epsilon that fp16 holds": lambda x: mb.layer_norm(x=x, axes=[1], epsilon=np.float16(2**-24)),
    "fp32 at the output": lambda x: mb.cast(
        x=mb.transpose(x=mb.squeeze(x=x, axes=[2]), perm=[0, 2, 1]), dtype="fp32"
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_engine_takes_is_not_found(name: str, tmp_path: Path) -> None:
    found = report(tmp_path, ACTIVATIONS, in_encoder(ALLOWED[name]))
    assert found.findings == ()
    assert found.engine.segments == 1


def test_the_embedding_stage_is_told_from_the_encoder(tmp_path: Path) -> None:
    table = half(100, 64)

    def body(ids: Any) -> Any:
        rows = mb.gather(x=table, indices=ids, axis=0, name="look_up")
        x = mb.expand_dims(x=mb.transpose(x=rows, perm=[0, 2, 1]), axes=[2])
        mask = mb.cast(x=mb.equal(x=ids, y=3, name="is_padding"), dtype="fp16", name="mask")
        x = mb.layer_norm(x=x, axes=[1], epsilon=np.float16(1e-3))
        columns = mb.reshape(x=mask, shape=[1, 1, 1, 32])
        return mb.cast(x=mb.mul(x=conv(x), y=columns), dtype="fp32", name="result")

    found = report(tmp_path, {"ids": np.zeros((1, 32), np.int32)}, body)
    assert {(f.operation, f.rule, f.stage) for f in found.findings} == {
        ("look_up", "gather", "embedding"),
        ("look_up", "integer", "embedding"),
        ("is_padding", "integer", "embedding"),
        ("mask", "integer", "embedding"),
    }
    assert found.engine.segments == 1


@pytest.mark.parametrize("islands", [0, 1, 2])
def test_islands_cut_the_graph_into_segments(islands: int, tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        x = residual = conv(x)
        for _ in range(islands):
            wide = mb.exp(x=mb.cast(x=x, dtype="fp32"))
            x = conv(mb.cast(x=wide, dtype="fp16"))
        return mb.add(x=x, y=residual)

    found = report(tmp_path, ACTIVATIONS, body)
    assert found.engine.segments == islands + 1
    # Each island is two casts and the operation between them.
    assert len(found.findings) == 3 * islands


def test_an_output_that_is_computed_with_is_an_island_all_the_same(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        wide = mb.cast(x=conv(x), dtype="fp32", name="wide")
        return wide, mb.exp(x=wide, name="beyond")

    found = report(tmp_path, ACTIVATIONS, body).findings
    assert {(f.operation, f.rule) for f in found} == {
        ("wide", "dtype-island"),
        ("beyond", "dtype-island"),
    }


@pytest.mark.filterwarnings("ignore")
def test_flexible_shapes_are_found(tmp_path: Path) -> None:
    model = ct.convert(
        torch.jit.trace(nn.Sequential(nn.Conv1d(64, 64, 1)), torch.zeros(1, 64, 32)),
        inputs=[ct.TensorType("x", (1, 64, ct.RangeDim(1, 64, default=32)))],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "flexible.mlpackage"))
    found = inspect_package(tmp_path / "flexible.mlpackage")
    assert found.flexible_inputs == {"main": ("x",)}
    assert found.functions["main"].engine.segments == 0
    assert ("flexible-shape", "x") in [
        (f.rule, f.operation) for f in found.functions["main"].findings
    ]
