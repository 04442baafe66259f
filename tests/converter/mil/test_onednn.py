"""Attention by oneDNN: that of float64, whatever stands behind a window, and in one program."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from converter.mil import onednn
from converter.mil.packed_attention import Attention
from tests.support.paths import ROOT

HEADS, WIDTH = 4, 16
H = HEADS * WIDTH

pytestmark = pytest.mark.skipif(not onednn.has_onednn(), reason="no oneDNN in this PyTorch")


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3 * H, generator=torch.Generator().manual_seed(seed))


def attention(x: Tensor) -> Tensor:
    """(n, H) of one window, in float64."""
    query, key, value = x.double().view(len(x), 3, HEADS, WIDTH).permute(1, 2, 0, 3)
    return ((query @ key.mT).softmax(-1) @ value).transpose(0, 1).reshape(len(x), H)


@pytest.mark.parametrize("n", [161, 176, 250, 511, 512, 1000])
def test_it_is_attention_whatever_stands_behind_the_window(n: int) -> None:
    x = rows(-(-n // 8) * 8)
    with torch.inference_mode():
        found = onednn.attend(x, HEADS, n).reshape(n, H)
        torch.testing.assert_close(found.double(), attention(x[:n]), rtol=1e-5, atol=1e-5)
        x[n:] = 1e4
        assert torch.equal(onednn.attend(x, HEADS, n).reshape(n, H), found)


def test_where_a_window_lies_does_not_matter() -> None:
    window = rows(403, seed=1)
    with torch.inference_mode():

        def of_last(*before: int) -> Tensor:
            attended = Attention(HEADS, (*before, 403), None, by_onednn=True)
            x = torch.cat([rows(sum(before)), window, rows(5)])
            assert attended.rows_read == len(x)
            return attended(x, None)[sum(before) : -5]

        alone = of_last()
        torch.testing.assert_close(alone.double(), attention(window), rtol=1e-5, atol=1e-5)
        assert torch.equal(of_last(30, 190, 403), alone)


@pytest.mark.parametrize("n", [253, 256])
def test_it_is_one_program_of_onednn(n: int) -> None:
    """What was not fused would give the same, slower."""
    with torch.inference_mode():
        onednn.attend(rows(256), HEADS, n)
    graph = str(torch.jit.last_executed_optimized_graph())
    fused = graph.partition("with prim::oneDNNFusionGroup_0 = graph")[2]
    for operation in ("aten::matmul", "aten::softmax"):
        assert fused.count(operation) == graph.count(operation) > 0
    assert not torch.jit.onednn_fusion_enabled()


_AS_IN_BERT = """
import torch
from converter.mil import onednn

for heads, threads in ((12, 1), (12, 2), (12, 4), (12, 8), (2, 2)):
    torch.set_num_threads(threads)
    onednn._program.cache_clear()
    print("case", onednn.deals_out(heads), flush=True)
    with torch.inference_mode():
        onednn.attend(torch.randn(256, 3 * 64 * heads), heads, 253)
"""


def test_it_is_taken_where_onednn_goes_head_by_head() -> None:
    """By oneDNN's own words."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "all"}
    ran = subprocess.run(
        [sys.executable, "-c", _AS_IN_BERT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cases = ran.stdout.split("case ")[1:]
    assert [case.startswith("True") for case in cases] == [True, True, True, False, False]
    executed = [[line for line in case.splitlines() if ",graph,exec," in line] for case in cases]
    by_head = [all(",sdp_decomp_kernel_t," in line for line in lines) for lines in executed]
    assert all(executed)
    assert by_head == [True, True, True, False, False]


def test_nor_where_threads_would_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert not onednn.deals_out(12)
