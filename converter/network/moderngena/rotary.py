"""Rotary position embedding: how far each pair of channels turns at each place."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@functools.lru_cache(maxsize=8)
def rotary_tables(
    length: int, head_size: int, theta: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, (length, head_size / 2) each.

    In float32 step by step as transformers computes them: at the end of a window an angle has lost
    four digits, which belongs to what was trained.
    """
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    angles = torch.arange(length, dtype=torch.float32)[:, None] * (1.0 / theta**exponents)
    return angles.cos().numpy(), angles.sin().numpy()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channels turned, the first half of each head's being the first of the pairs.

    Args:
        x: (..., L, head_size).
        cos, sin: (L, head_size / 2).
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@functools.lru_cache(maxsize=8)
def out_of_reach(length: int, reach: int) -> NDArray[np.float32]:
    """(length, length): 1 where two tokens are more than `reach` apart, else 0."""
    places = np.arange(length)
    return (np.abs(places[:, None] - places) > reach).astype(np.float32)
