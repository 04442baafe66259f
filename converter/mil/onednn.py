"""What PyTorch's oneDNN computes on a CPU sooner than PyTorch's own kernels do."""

import functools
import platform
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

# Rows of products and of attention are a multiple: oneDNN makes code for every number.
ROW_STEP = 8
# Programs of attention that are kept, of 1.6 MB each. To make one takes what it saves in two or
# three predictions.
_KEPT_PROGRAMS = 24


def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's products with packed weights, as it has on x86."""
    return platform.machine() in ("x86_64", "AMD64") and bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def deals_out(heads: int) -> bool:
    """Whether oneDNN computes attention head by head in this process, each thread as many.

    It does with two heads or more a thread; otherwise it is not sooner.
    """
    threads = torch.get_num_threads()
    return heads >= 2 * threads and heads % threads == 0


def apart(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, heads, n, width) of (B, n, 3H); the same memory."""
    batch, n, _ = x.shape
    query, key, value = x.view(batch, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def attend(x: Tensor, heads: int, n: int) -> Tensor:
    """Attention of one window: a head's scores, softmax and product on one core.

    PyTorch's own takes a quarter more time: it cuts queries into blocks of 64, for each of which
    keys and values are packed anew.

    Args:
        x: (N, 3H) float32 of queries, keys and values, the queries scaled already; N a multiple
            of `ROW_STEP`.
        n: tokens. The N - n rows after them may hold any finite numbers, and have no effect.

    Returns:
        (n, heads, width).
    """
    rows = len(x)
    program = _program(rows, x.shape[1], heads, rows > n)
    operands = apart(x[None], heads)
    attended = program(*operands, _mask(n, rows)) if rows > n else program(*operands)
    return attended[0, :, :n].transpose(0, 1)


@functools.lru_cache(maxsize=64)
def _mask(n: int, rows: int) -> Tensor:
    mask = torch.zeros(1, 1, 1, rows)
    mask[..., n:] = -torch.inf
    return mask


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.matmul(torch.matmul(query, key.transpose(2, 3)).softmax(-1), value)


def _masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return torch.matmul((torch.matmul(query, key.transpose(2, 3)) + mask).softmax(-1), value)


@functools.lru_cache(maxsize=_KEPT_PROGRAMS)
def _program(rows: int, width: int, heads: int, is_masked: bool) -> Callable[..., Tensor]:
    """Attention for one shape, which TorchScript has oneDNN's graph compiler fuse.

    It is the way that PyTorch has to that compiler.
    """
    operands = apart(torch.zeros(1, rows, width), heads)
    mask = (_mask(rows, rows),) if is_masked else ()
    before = torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    torch.jit.enable_onednn_fusion(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's; torch is pinned
            program: Callable[..., Tensor] = torch.jit.trace(  # type: ignore[no-untyped-call]
                _masked_attention if is_masked else _attention,
                (*operands, *mask),
                check_trace=False,
            )
        for _ in range(2):  # shapes are seen in the first run, and the program made in the second
            program(*operands, *mask)
    finally:
        torch.jit.enable_onednn_fusion(before)
    return program
