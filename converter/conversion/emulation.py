"""The effect of fp16, emulated in PyTorch before anything is built.

The re-authored network runs with some of its modules in fp16: weights rounded, and every
operation's output rounded, as a package would.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from converter.network.neural_engine import NeuralEngineEncoder, Normalise


def precision_modules(network: NeuralEngineEncoder) -> tuple[str, ...]:
    """Paths of the modules for which precision can be chosen, in the order of computation."""
    paths = ["embedding_stage"]
    for index, block in enumerate(network.blocks):
        paths += [f"blocks.{index}.{name}" for name, _ in block.named_children()]
    return (*paths, *(["last_norm"] if network.last_norm is not None else []))


def emulate(
    network: NeuralEngineEncoder,
    inputs: Sequence[Tensor],
    fp16_modules: Collection[str],
    *,
    round_operations: bool,
    round_norms: bool = False,
) -> Tensor:
    """The network's output (B, L, H) with these modules in fp16.

    Args:
        inputs: as the network takes them; several windows may be stacked on the first axis.
        round_operations: round every operation's output too, not only the weights.
        round_norms: and every step inside a norm, which is one operation of a package.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_rounded_weights(network, fp16_modules))
        if round_operations:
            rounding = stack.enter_context(_Rounding())
            stack.enter_context(_scopes(network, frozenset(fp16_modules), rounding, round_norms))
        # One at a time, as the network is made for; blocks that look a short way take no others.
        windows = zip(*(torch.split(each, 1) for each in inputs), strict=True)
        return torch.cat([network(*window) for window in windows])


class _Rounding(TorchFunctionMode):
    """Rounds the output of every operation to fp16 while `active`."""

    active = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.active and isinstance(out, Tensor) and out.is_floating_point():
            return _half(out)
        return out


def _half(tensor: Tensor) -> Tensor:
    return tensor.half().float()


@contextlib.contextmanager
def _rounded_weights(network: nn.Module, modules: Collection[str]) -> Iterator[None]:
    """Round the weights of these modules in place, and put the originals back."""
    originals: list[tuple[Tensor, Tensor]] = []
    for path in modules:
        module = network.get_submodule(path)
        originals += [(t, t.clone()) for t in (*module.parameters(), *module.buffers())]
    try:
        for tensor, original in originals:
            tensor.copy_(_half(original))
        yield
    finally:
        for tensor, original in originals:
            tensor.copy_(original)


@contextlib.contextmanager
def _scopes(
    network: NeuralEngineEncoder, fp16: frozenset[str], rounding: _Rounding, round_norms: bool
) -> Iterator[None]:
    """Switch the rounding on and off as the forward pass enters and leaves modules.

    `Normalise` is one operation in the package: only its output is rounded, unless `round_norms`.
    """
    chosen = frozenset(precision_modules(network))
    outer: list[bool] = []
    handles: list[RemovableHandle] = []

    def enter(path: str, module: nn.Module) -> None:
        known = path in chosen
        fused = isinstance(module, Normalise) and not round_norms
        if not known and not fused:
            return

        def before(*_: Any) -> None:
            outer.append(rounding.active)
            rounding.active = (path in fp16 if known else rounding.active) and not fused

        def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            rounding.active = False
            rounds = path in fp16 if known else outer[-1]
            result = _half(output) if fused and rounds else output
            rounding.active = outer.pop()
            return result

        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))

    for path, module in network.named_modules():
        enter(path, module)
    try:
        yield
    finally:
        rounding.active = False
        for handle in handles:
            handle.remove()
