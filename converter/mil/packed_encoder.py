"""A package's encoder arranged for a CPU or a GPU: windows of any length, several at a time.

The package's own program computes one window, head by head, padded to a fixed length, as suits the
Neural Engine. Here queries, keys and values are one product, windows lie end to end without
padding, and only attention looks at them one by one.
"""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from converter.errors import PackageError
from converter.mil.encoder_weights import (
    EncoderWeights,
    LayerWeights,
    Linear,
    Norm,
    read_encoder_weights,
)
from converter.network.config import EncoderConfig
from converter.package.interface import PackageInterface
from converter.package.reader import load_program

# oneDNN makes code for every number of rows, half a megabyte for each product, and keeps it: the
# numbers are rounded up, those up to so many to a multiple of the step beside it.
_ROW_STEPS = ((32, 4), (64, 8), (256, 16), (math.inf, 32))

# x (N, I) to (N, O).
_Product = Callable[[Tensor], Tensor]


class PackedEncoder:
    """Last hidden states of windows of any length. Made by `of_package`.

    The residual stream, its norms and the sums are float32 whatever `compute` is.
    """

    def __init__(
        self,
        weights: "EncoderWeights[_Layer]",
        config: EncoderConfig,
        words: Tensor,
        *,
        device: torch.device,
        compute: torch.dtype,
    ) -> None:
        self._heads = config.num_attention_heads
        self._pre_norm = config.pre_layer_norm
        self._device = device
        self._words = words.to(self._device)
        self._positions = weights.positions.to(self._device, torch.float32)
        self._embedding_norm = _LayerNorm(weights.embedding_norm, self._device)
        self._layers = weights.layers
        self._last_norm = _LayerNorm(weights.last_norm, self._device) if weights.last_norm else None
        self._output_scale = weights.output_scale
        self._compute = compute

    @classmethod
    def of_package(
        cls,
        package: Path,
        interface: PackageInterface,
        *,
        device: str = "cpu",
        compute: torch.dtype = torch.float32,
    ) -> "PackedEncoder":
        """The encoder of an `.mlpackage` folder.

        Args:
            device: of torch: "cpu", "cuda" or "mps".
            compute: dtype of the products and of attention: torch.float32, bfloat16 or float16.

        Raises:
            PackageError: it is damaged, or laid out otherwise than by this project's converter.
        """
        program = load_program(package)
        interface.require_functions(program.functions)
        longest = program.functions[interface.function(interface.default_length)]
        place = torch.device(device)
        weights = read_encoder_weights(
            longest, interface.config, lambda layer: _Layer.arrange(layer, place, compute)
        )
        table = interface.host_table
        words = weights.words if table is None else torch.from_numpy(table)
        if words is None:
            raise PackageError("The package leaves the look-up to its host, and there is no table.")
        return cls(weights, interface.config, words, device=place, compute=compute)

    @torch.inference_mode()
    def predict(self, windows: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Last hidden states.

        Args:
            windows: of each, (n,) ids inside the vocabulary, none of padding.

        Returns:
            Of each, (n, H) float32, C order.
        """
        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        rows = self._hidden_states([windows[index] for index in order]).cpu()
        parts = torch.split(rows, [len(windows[index]) for index in order])
        states = dict(zip(order, parts, strict=True))
        return [states[index].numpy() for index in range(len(windows))]

    def _hidden_states(self, windows: Sequence[NDArray[np.int32]]) -> Tensor:
        """(N, H) of windows that ascend in length, end to end."""
        lengths = [len(window) for window in windows]
        rows = sum(lengths)
        filling = [np.zeros(self._filled(rows) - rows, np.int32)]
        ids = torch.from_numpy(np.concatenate([*windows, *filling])).to(self._device)
        places = np.concatenate([*map(np.arange, lengths), *filling])
        x = self._words[ids].float() + self._positions[torch.from_numpy(places).to(self._device)]
        return self._encode(self._embedding_norm(x), self._attention(lengths))[:rows]

    def _filled(self, rows: int) -> int:
        """How many rows to compute for so many: a number that products are kept for."""
        if self._device.type != "cpu":
            return rows
        step = next(step for most, step in _ROW_STEPS if rows <= most)
        return rows + -rows % step

    def _encode(self, x: Tensor, attend: _Product) -> Tensor:
        """(N, H) behind the embedding's norm to the last hidden states."""
        compute_layer = self._pre_norm_layer if self._pre_norm else self._post_norm_layer
        for layer in self._layers:
            x = compute_layer(layer, x, attend)
        if self._last_norm is not None:
            x = self._last_norm(x)
        return x if self._output_scale == 1 else x * self._output_scale

    def _pre_norm_layer(self, layer: "_Layer", x: Tensor, attend: _Product) -> Tensor:
        inner = attend(layer.query_key_value(self._narrow(layer.attention_norm(x))))
        x += layer.output(inner)
        inner = layer.up(self._narrow(layer.feed_forward_norm(x)))
        x += layer.down(inner)
        return x

    def _post_norm_layer(self, layer: "_Layer", x: Tensor, attend: _Product) -> Tensor:
        inner = attend(layer.query_key_value(self._narrow(x)))
        x = layer.attention_norm(x + layer.output(inner))
        inner = layer.up(self._narrow(x))
        return layer.feed_forward_norm(x + layer.down(inner))

    def _narrow(self, x: Tensor) -> Tensor:
        return x.to(self._compute)

    def _attention(self, lengths: Sequence[int]) -> _Product:
        """What makes (N, H) of queries, keys and values (N, 3H), each window for itself."""
        heads = self._heads
        if self._device.type == "cpu" or lengths[0] == lengths[-1]:
            groups = [(n, len(list(same))) for n, same in groupby(lengths)]
            return lambda x: _attend_in_groups(x, heads, groups)
        padding = _Padding.of(lengths, self._device)
        return lambda x: _attend_padded(x, heads, padding)


def _attend_in_groups(x: Tensor, heads: int, groups: Sequence[tuple[int, int]]) -> Tensor:
    """Windows of one length at a time.

    Args:
        groups: lengths, ascending, and how many windows have them; the rows after those are
            nobody's, and get any numbers.
    """
    sizes = [n * count for n, count in groups]
    *parts, rest = torch.split(x, [*sizes, len(x) - sum(sizes)])
    attended = [
        _attend(part.view(count, n, -1), heads)
        for part, (n, count) in zip(parts, groups, strict=True)
    ]
    if len(rest):
        attended.append(rest[:, : x.shape[1] // 3])
    return attended[0] if len(attended) == 1 else torch.cat(attended)


def _attend(x: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """(B, n, 3H) to (B n, H); the queries are scaled already."""
    batch, n, width = x.shape
    query, key, value = x.view(batch, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    return attended.transpose(1, 2).reshape(batch * n, width // 3)


@dataclass(frozen=True)
class _Padding:
    """Where the rows of windows of several lengths go when each gets as many as the longest.

    Attributes:
        places: (N,) of each row in (B n).
        mask: (B, 1, 1, n), true for tokens.
    """

    places: Tensor
    mask: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "_Padding":
        is_token = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        places = is_token.flatten().nonzero().flatten()
        return cls(places.to(device), is_token[:, None, None].to(device))


def _attend_padded(x: Tensor, heads: int, padding: _Padding) -> Tensor:
    """All windows in one call: a GPU would wait for a call for each length."""
    batch, _, _, n = padding.mask.shape
    padded = x.new_zeros(batch * n, x.shape[1])
    padded[padding.places] = x
    return _attend(padded.view(batch, n, -1), heads, padding.mask)[padding.places]


class _LayerNorm:
    """Over the last axis, in float32."""

    def __init__(self, norm: Norm, device: torch.device) -> None:
        self._eps = norm.eps
        self._weight, self._bias = (
            None if each is None else each.to(device, torch.float32)
            for each in (norm.weight, norm.bias)
        )

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


@dataclass(frozen=True)
class _Layer:
    attention_norm: _LayerNorm
    query_key_value: _Product
    output: _Product
    feed_forward_norm: _LayerNorm
    up: _Product
    down: _Product

    @classmethod
    def arrange(cls, layer: LayerWeights, device: torch.device, compute: torch.dtype) -> "_Layer":
        inner = (layer.query, layer.key, layer.value)
        together = Linear(
            torch.cat([each.weight for each in inner]), torch.cat([each.bias for each in inner])
        )
        return cls(
            attention_norm=_LayerNorm(layer.attention_norm, device),
            query_key_value=_product(together, device, compute),
            output=_product(layer.output, device, compute),
            feed_forward_norm=_LayerNorm(layer.feed_forward_norm, device),
            up=_product(layer.up, device, compute, gelu=True),
            down=_product(layer.down, device, compute),
        )


def _product(
    linear: Linear, device: torch.device, compute: torch.dtype, *, gelu: bool = False
) -> _Product:
    """x W^T + b, and the exact GELU of that where it is asked for."""
    weight, bias = linear.weight.to(device, compute), linear.bias.to(device, compute)
    if device.type == "cpu" and compute != torch.float16 and has_packed_products():
        # oneDNN's own layout, made once: F.linear makes it again for every product.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        compute_product = torch.ops.mkldnn._linear_pointwise
        # "none" is the exact GELU.
        activation: tuple[str, list[float], str] = (
            ("gelu", [], "none") if gelu else ("none", [], "")
        )
        return lambda x: compute_product(x, packed, bias, *activation)
    if gelu:
        return lambda x: F.gelu(F.linear(x, weight, bias))
    return lambda x: F.linear(x, weight, bias)


def has_packed_products() -> bool:
    """Whether this PyTorch has oneDNN's products with packed weights, as it has on x86."""
    return platform.machine() in ("x86_64", "AMD64") and bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
