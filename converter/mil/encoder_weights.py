"""The encoder's weights as they stand in a package: read from its program, for other arithmetic.

They are those of `converter.network.neural_engine`, every scale and fold of its surgery included.
Only what can change a number is looked at, in program order: it has to be the sequence that this
project's converter writes. What is read is not trusted for that alone: whoever computes with it
compares itself with the package that is executed, or with the golden windows.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from converter.errors import PackageError
from converter.mil.weights import EXPANSIONS, constant_weight, named_weights
from converter.network.structure import EncoderConfig, LayerStructure
from converter.package.program import Constant, Function, Operation

# Operations that move values, or compute what does not depend on weights: attention, and the mask.
_WITHOUT_WEIGHTS = frozenset(
    {
        *("transpose", "expand_dims", "squeeze", "reshape", "cast", "split", "concat"),
        *("einsum", "softmax", "pad", "slice_by_index", "minimum"),
        *("equal", "greater_equal", "select", "mul", "sub", "add"),
    }
)


Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over H values; weight and bias (H,), None where there are none."""

    eps: float
    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """Weight (O, I) and bias (O,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Turns:
    """How far each pair of a head's channels turns at each place: cosine and sine (P, pairs)."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class LayerWeights:
    """One layer; its norms stand before (pre-LN) or behind (post-LN) what they belong to.

    Attributes:
        attention_norm: None where attention reads the stream as it is.
        query: with 1/sqrt(head size) in it.
        query, key: with turns, the two channels of a pair one after the other.
        turns: of queries and keys; None where they do not turn.
        up, down: the feed-forward, its chunks put together.
        gate: what its activation is multiplied with; None where with nothing.
    """

    structure: LayerStructure
    attention_norm: Norm | None
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    turns: Turns | None
    feed_forward_norm: Norm
    up: Linear
    gate: Linear | None
    down: Linear


@dataclass(frozen=True)
class EncoderWeights(Generic[Layer]):
    """All that an encoder computes with, as float16 or float32: as the package stores it.

    Attributes:
        words: (V, H); None where the package leaves the look-up to its host.
        positions: (P, H), token type included; None where the family has none.
        output_scale: of the last hidden states.
    """

    words: Tensor | None
    positions: Tensor | None
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    last_norm: Norm | None
    output_scale: float


def read_encoder_weights(
    function: Function, config: EncoderConfig, arrange: Callable[[LayerWeights], Layer]
) -> EncoderWeights[Layer]:
    """Read the weights of a package's function; of its longest one, which has all positions.

    Args:
        arrange: called with each layer as soon as it is read, so that no two copies of all weights
            are in memory.

    Raises:
        PackageError: the program is laid out otherwise (`--layout published`; by another
            converter), or a weight has another shape than the configuration says.
    """
    operations = _Operations(function)
    words = operations.words()
    positions = operations.positions() if config.has_position_table else None
    embedding_norm = operations.norm()
    structures = [config.layer(index) for index in range(config.num_hidden_layers)]
    layers = tuple(arrange(_layer(operations, config, structure)) for structure in structures)
    last_norm = operations.norm() if config.has_last_norm else None
    operations.require_end()
    hidden = config.hidden_size
    if positions is not None:
        _require_shapes([positions], [(len(positions), hidden)])
    if words is not None:
        _require_shapes([words], [(config.vocab_size, hidden)])
    return EncoderWeights(
        words, positions, embedding_norm, layers, last_norm, _output_scale(function)
    )


def _layer(
    operations: "_Operations", config: EncoderConfig, structure: LayerStructure
) -> LayerWeights:
    pre = structure.norms == "before"
    attention_norm = operations.norm() if pre and structure.attention_norm else None
    turns = None
    if structure.rotary:
        (query, turns), (key, _) = (operations.turned(config.head_size) for _ in range(2))
    else:
        query, key = (operations.linear() for _ in range(2))
    value, output = (operations.linear() for _ in range(2))
    if not pre:
        attention_norm = operations.norm()
    feed_forward_norm = operations.norm() if pre else None
    up, gate, down = operations.feed_forward(gated=structure.gated)
    hidden, wide = config.hidden_size, config.intermediate_size
    matrices = [linear.weight for linear in (query, key, value, output, up, gate or up, down)]
    _require_shapes(matrices, [(hidden, hidden)] * 4 + [(wide, hidden)] * 2 + [(hidden, wide)])
    return LayerWeights(
        structure=structure,
        attention_norm=attention_norm,
        query=query,
        key=key,
        value=value,
        output=output,
        turns=turns,
        feed_forward_norm=feed_forward_norm or operations.norm(),
        up=up,
        gate=gate,
        down=down,
    )


class _Operations:
    """A function's operations with weights, taken one after the other."""

    def __init__(self, function: Function) -> None:
        self._name = function.name
        self._weights = named_weights(function)
        self._shared_turns: dict[Hashable, Turns] = {}
        self._all = self._with_weights(function)
        self._next = next(self._all, None)

    def words(self) -> Tensor | None:
        """(V, H); None where no look-up comes next."""
        if not self._comes("gather"):
            return None
        return self._tensor(self._take("gather"), "x")

    def positions(self) -> Tensor:
        """(P, H)."""
        return self._tensor(self._take("add"), "y")[0, :, 0].T.contiguous()

    def norm(self) -> Norm:
        """With the scale and shift that follow it, of which coremltools leaves out the trivial."""
        operation = self._take("layer_norm")
        if "gamma" in operation.inputs or "beta" in operation.inputs:
            raise self._otherwise(operation)
        eps = float(self._tensor(operation, "epsilon"))
        weight = bias = None
        if self._comes("batch_norm"):
            weight, bias = self._batch_norm()
        if self._comes("mul"):
            weight = self._tensor(self._take("mul"), "y").flatten()
        if self._comes("add"):
            bias = self._tensor(self._take("add"), "y").flatten()
        return Norm(eps, weight, bias)

    def turned(self, head_size: int) -> tuple[Linear, Turns]:
        """Two convolutions, of the first and the second ones of all pairs, and their turns."""
        first, second = self.linear(), self.linear()
        tables = [self._take("mul") for _ in range(4)][:2]  # twice, for each one of a pair
        weight = torch.stack([first.weight, second.weight], dim=1).flatten(0, 1)
        bias = torch.stack([first.bias, second.bias], dim=1).flatten()
        return Linear(weight, bias), self._turns(tables, head_size)

    def _turns(self, tables: Sequence[Operation], head_size: int) -> Turns:
        """Those of one head, which are those of all; layers that have the same share them."""
        key = tuple(table.inputs["y"][0] for table in tables)
        if key not in self._shared_turns:
            rows = (self._tensor(table, "y")[0, : head_size // 2, 0].T for table in tables)
            self._shared_turns[key] = Turns(*(each.contiguous() for each in rows))
        return self._shared_turns[key]

    def _batch_norm(self) -> tuple[Tensor, Tensor]:
        scaled = self._take("batch_norm")
        mean, variance, gamma, beta, epsilon = (
            self._tensor(scaled, parameter).double()
            for parameter in ("mean", "variance", "gamma", "beta", "epsilon")
        )
        weight = gamma / torch.sqrt(variance + epsilon)
        return weight.float(), (beta - mean * weight).float()

    def linear(self) -> Linear:
        operation = self._take("conv")
        weight = self._tensor(operation, "weight")
        if weight.ndim != 4 or weight.shape[2:] != (1, 1):
            raise self._otherwise(operation)
        if "bias" in operation.inputs:
            return Linear(weight[:, :, 0, 0], self._tensor(operation, "bias"))
        return Linear(weight[:, :, 0, 0], torch.zeros(len(weight)))

    def feed_forward(self, *, gated: bool) -> tuple[Linear, Linear | None, Linear]:
        """Up, gate and down around one GELU, or around several that share the channels."""
        ups, gates, downs = [], [], []
        while self._comes("conv"):
            ups.append(self.linear())
            self._take_exact_gelu()
            if gated:
                gates.append(self.linear())
            downs.append(self.linear())
        if not downs:
            raise self._otherwise(self._next)
        down = Linear(
            torch.cat([down.weight for down in downs], dim=1),
            torch.stack([down.bias for down in downs]).sum(0),
        )
        return _stacked(ups), _stacked(gates) if gates else None, down

    def require_end(self) -> None:
        if self._next is not None:
            raise self._otherwise(self._next)

    def _comes(self, type_: str) -> bool:
        return self._next is not None and self._next.type == type_

    def _take(self, type_: str) -> Operation:
        taken = self._next
        if taken is None or taken.type != type_:
            raise self._otherwise(taken)
        self._next = next(self._all, None)
        return taken

    def _take_exact_gelu(self) -> None:
        gelu = self._take("gelu")
        mode = gelu.inputs["mode"][0]
        if not isinstance(mode, Constant) or mode.scalar() != "EXACT":
            raise self._otherwise(gelu)

    def _tensor(self, operation: Operation, parameter: str) -> Tensor:
        source = operation.inputs[parameter][0]
        weight = (
            constant_weight(source) if isinstance(source, Constant) else self._weights.get(source)
        )
        if weight is None:
            raise self._otherwise(operation)
        return torch.from_numpy(np.array(weight.read()))

    def _with_weights(self, function: Function) -> Iterator[Operation]:
        for operation in function.operations:
            has_weights = operation.type not in _WITHOUT_WEIGHTS | EXPANSIONS
            if has_weights or _has_rows(operation):
                yield operation

    def _otherwise(self, operation: Operation | None) -> PackageError:
        what = f"operation {operation.name!r} ({operation.type})" if operation else "its end"
        return PackageError(
            f"The package's function {self._name} is not laid out as this project's converter lays "
            f"the encoder out: {what} is not what comes there. Set GENA_RUNTIME=mil, which "
            "executes it as it is."
        )


def _stacked(parts: Sequence[Linear]) -> Linear:
    """Layers of one input as one."""
    return Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))


def _has_rows(operation: Operation) -> bool:
    """Whether it adds or multiplies a constant for each channel: positions, turns, a norm's."""
    table = operation.inputs["y"][0] if operation.type in ("add", "mul") else None
    return isinstance(table, Constant) and table.type.is_floating and len(table.type.shape) == 4


def _output_scale(function: Function) -> float:
    """What the last hidden states are multiplied with on their way out; 1 where with nothing."""
    makers = {output.name: each for each in function.operations for output in each.outputs}
    last = makers[function.outputs[0].name]
    if last.type == "cast":
        last = makers[next(last.values())]
    factor = last.inputs["y"][0] if last.type == "mul" else None
    return float(factor.scalar()) if isinstance(factor, Constant) else 1.0


def _require_shapes(found: Sequence[Tensor], expected: Sequence[tuple[int, ...]]) -> None:
    if [tuple(tensor.shape) for tensor in found] != list(expected):
        raise PackageError("The package's weights have other shapes than its configuration says.")
