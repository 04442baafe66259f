"""A package's encoder arranged for a CPU or a GPU: windows of any length, several at a time.

The package's own program computes one window, head by head, padded to a fixed length, as suits the
Neural Engine. Here queries, keys and values are one product, windows lie end to end without
padding, and only attention and pooling look at them one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    Turns,
    read_encoder_weights,
)
from converter.mil.onednn import ROW_STEP, deals_out, has_onednn
from converter.mil.packed_attention import Attention, Padding
from converter.mil.packed_pooling import Cut, PackedPooling
from converter.network.structure import EncoderConfig
from converter.package.interface import PackageInterface
from converter.package.reader import load_program
from converter.pooling import Poolings, count_answered, of_each

# oneDNN makes code for every number of rows, which takes a millisecond for each of a layer's
# products: numbers of rows are rounded up, those up to so many to a multiple of the step beside it.
# Coarser steps compute more rows for nothing than that saves.
_ROW_STEPS = ((32, 4), (math.inf, ROW_STEP))


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
        self._pre_norm = config.layer(0).norms == "before"
        self._device = device
        self._words = words.to(self._device)
        table = weights.positions
        self._positions = None if table is None else table.to(self._device, torch.float32)
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
    def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> list[NDArray[np.float32]]:
        """Last hidden states, or what is pooled of them.

        Args:
            windows: of each, (n,) ids inside the vocabulary, none of padding.
            poolings: what is wanted of each.

        Returns:
            Of each, (n, H) float32, or (1, H) where it is pooled; C order.
        """
        lengths = [len(window) for window in windows]
        wanted = of_each(poolings, lengths)
        # What is alike lies together.
        order = sorted(
            range(len(windows)),
            key=lambda index: (lengths[index], wanted[index] is not None, wanted[index]),
        )
        pooling = PackedPooling.of([lengths[i] for i in order], [wanted[i] for i in order])
        rows = self._hidden_states([windows[index] for index in order], pooling).cpu()
        parts = torch.split(rows, [count_answered(lengths[i], wanted[i]) for i in order])
        answers = dict(zip(order, parts, strict=True))
        return [answers[index].numpy() for index in range(len(windows))]

    def _hidden_states(
        self, windows: Sequence[NDArray[np.int32]], pooling: PackedPooling
    ) -> Tensor:
        """(R, H) that is wanted of windows that ascend in length, end to end."""
        lengths = [len(window) for window in windows]
        attention = self._attention(lengths)
        filling = [np.zeros(self._filled(attention.rows_read) - sum(lengths), np.int32)]
        ids = torch.from_numpy(np.concatenate([*windows, *filling])).to(self._device)
        places = np.concatenate([*map(np.arange, lengths), *filling])
        company = _Company(torch.from_numpy(places).to(self._device), attention)
        x = self._words[ids].float()
        if self._positions is not None:
            x = x + self._positions[company.places]
        return self._encode(self._embedding_norm(x), company, pooling)[: pooling.rows]

    def _filled(self, rows: int) -> int:
        """How many rows to compute for so many: a number that products are kept for."""
        if self._device.type != "cpu":
            return rows
        step = next(step for most, step in _ROW_STEPS if rows <= most)
        return rows + -rows % step

    def _encode(self, x: Tensor, company: "_Company", pooling: PackedPooling) -> Tensor:
        """(N, H) behind the embedding's norm to what is wanted of the last hidden states."""
        compute_layer = self._pre_norm_layer if self._pre_norm else self._post_norm_layer
        *layers, last = self._layers
        for layer in layers:
            x = compute_layer(layer, x, company, Cut())
        cut = self._cut(pooling, len(x))
        x = compute_layer(last, x, company, cut)
        if self._last_norm is not None:
            x = self._last_norm(x)
        x = cut.at_end(x)
        return x if self._output_scale == 1 else x * self._output_scale

    def _cut(self, pooling: PackedPooling, rows: int) -> Cut:
        """Where the last layer goes on with what is wanted of its rows: as early as may be."""
        if not pooling.wants_less:
            return Cut()
        filled = self._filled(pooling.rows)

        def pooled(x: Tensor) -> Tensor:
            return pooling(x, filled)

        if pooling.picks:
            return Cut(after_attention=pooled)
        ends_in_product = self._pre_norm and self._last_norm is None
        # A mean that is rounded to bf16 would lose what averaging gains.
        is_exact = pooling.is_linear and self._compute == torch.float32
        if ends_in_product and is_exact and 2 * filled <= rows:
            return Cut(before_down=pooled)
        return Cut(at_end=pooled)

    def _pre_norm_layer(self, layer: "_Layer", x: Tensor, company: "_Company", cut: Cut) -> Tensor:
        normed = x if layer.attention_norm is None else layer.attention_norm(x)
        attended = cut.after_attention(self._attended(layer, normed, company))
        x = layer.output.plus(attended, cut.after_attention(x))
        inner = layer.inner(self._narrow(layer.feed_forward_norm(x)))
        return layer.down.plus(cut.before_down(inner), cut.before_down(x))

    def _post_norm_layer(self, layer: "_Layer", x: Tensor, company: "_Company", cut: Cut) -> Tensor:
        assert layer.attention_norm is not None
        attended = cut.after_attention(self._attended(layer, x, company))
        x = layer.attention_norm(layer.output.plus(attended, cut.after_attention(x)))
        inner = layer.inner(self._narrow(x))
        return layer.feed_forward_norm(layer.down.plus(inner, x))

    def _attended(self, layer: "_Layer", x: Tensor, company: "_Company") -> Tensor:
        """(N, H), before the output's projection."""
        together = layer.query_key_value(self._narrow(x))
        if layer.turns is not None:
            together = _turned(together, company.angles(layer.turns))
        return company.attention(together, layer.reach)

    def _narrow(self, x: Tensor) -> Tensor:
        return x.to(self._compute)

    def _attention(self, lengths: Sequence[int]) -> Attention:
        """Each window for itself."""
        is_on_cpu = self._device.type == "cpu"
        is_even = is_on_cpu or lengths[0] == lengths[-1]
        padding = None if is_even else Padding.of(lengths, self._device)
        is_exact = self._compute == torch.float32
        by_onednn = is_on_cpu and is_exact and has_onednn() and deals_out(self._heads)
        return Attention(self._heads, tuple(lengths), padding, by_onednn)


@dataclass(frozen=True)
class _Company:
    """The windows of one pass.

    Attributes:
        places: (N,) of each row in its window.
    """

    places: Tensor
    attention: Attention
    _angles: dict[int, Tensor] = field(default_factory=dict)

    def angles(self, turns: Turns) -> Tensor:
        """(N, 1, pairs) complex64 of length 1: those of each row, made once for all layers."""
        found = self._angles.get(id(turns))
        if found is None:
            table = torch.complex(turns.cos.float(), turns.sin.float()).to(self.places.device)
            found = self._angles[id(turns)] = table[self.places][:, None]
        return found


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Queries and keys of (N, 3H) turned in float32; their channels stand in pairs."""
    n, width = x.shape
    pairs = x[:, : 2 * width // 3].view(n, -1, angles.shape[2], 2)
    numbers = torch.view_as_complex(pairs.float())
    if x.dtype == torch.float32:  # the same memory
        numbers *= angles
        return x
    x[:, : 2 * width // 3] = torch.view_as_real(numbers * angles).flatten(1).to(x.dtype)
    return x


class _LayerNorm:
    """Over the last axis, in float32."""

    def __init__(self, norm: Norm, device: torch.device) -> None:
        self._eps = norm.eps
        self._weight, self._bias = (
            None if each is None else each.to(device, torch.float32)
            for each in (norm.weight, norm.bias)
        )

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


class _Product:
    """x W^T + b (N, O) of x (N, I), and what is computed with it in one pass."""

    def __init__(self, linear: Linear, device: torch.device, compute: torch.dtype) -> None:
        self._weight = linear.weight.to(device, compute)
        self._bias = linear.bias.to(device, compute)
        self._packed = device.type == "cpu" and compute != torch.float16 and has_onednn()
        if self._packed:
            # oneDNN's own layout, made once: F.linear makes it again for every product.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight.contiguous(), None)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        return self._pointwise(x, "none", "")

    def gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of the product."""
        if not self._packed:
            return F.gelu(F.linear(x, self._weight, self._bias))
        return self._pointwise(x, "gelu", "none")  # "none": nothing is approximated

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The product, multiplied with another tensor of its shape and dtype."""
        return self._with(x, other, "mul") if self._packed else self(x) * other

    def plus(self, x: Tensor, stream: Tensor) -> Tensor:
        """The product, added to the residual stream, in the stream's float32."""
        if self._packed and x.dtype == stream.dtype:
            return self._with(x, stream, "add")
        return stream + self(x)

    def _pointwise(self, x: Tensor, activation: str, algorithm: str) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            x, self._weight, self._bias, activation, [], algorithm
        )
        return product

    def _with(self, x: Tensor, other: Tensor, how: str) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self._weight, self._bias, how
        )
        return product


@dataclass(frozen=True)
class _Layer:
    reach: int | None
    turns: Turns | None
    attention_norm: _LayerNorm | None
    query_key_value: _Product
    output: _Product
    feed_forward_norm: _LayerNorm
    up: _Product
    gate: _Product | None
    down: _Product

    @classmethod
    def arrange(cls, layer: LayerWeights, device: torch.device, compute: torch.dtype) -> "_Layer":
        inner = (layer.query, layer.key, layer.value)
        together = Linear(
            torch.cat([each.weight for each in inner]), torch.cat([each.bias for each in inner])
        )
        before = layer.attention_norm
        return cls(
            reach=layer.structure.reach,
            turns=layer.turns,
            attention_norm=None if before is None else _LayerNorm(before, device),
            query_key_value=_Product(together, device, compute),
            output=_Product(layer.output, device, compute),
            feed_forward_norm=_LayerNorm(layer.feed_forward_norm, device),
            up=_Product(layer.up, device, compute),
            gate=None if layer.gate is None else _Product(layer.gate, device, compute),
            down=_Product(layer.down, device, compute),
        )

    def inner(self, x: Tensor) -> Tensor:
        """What stands between the two sides of the feed-forward (N, I)."""
        activated = self.up.gelu(x)
        return activated if self.gate is None else self.gate.times(x, activated)
