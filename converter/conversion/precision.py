"""Which parts of a network need fp32, found before anything is built.

The re-authored network is run in PyTorch with some of its modules emulating fp16: weights
rounded, and every operation's output rounded, as a package would. The errors of the modules add
up (they are independent roundings), so one run a module ranks them, and the least set whose
removal brings the rest under the gates is made fp32. What is built is verified again, whatever
is found here.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from converter.fidelity.gates import FP16_OPERATIONS, FP32_ARITHMETIC, Figures, compare
from converter.network.neural_engine import NeuralEngineEncoder, Normalise

# Room between what the emulation says and the gate, in dB.
_MARGIN_DB = 2.0


def precision_modules(network: NeuralEngineEncoder) -> tuple[str, ...]:
    """Paths of the modules for which precision can be chosen, in program order.

    A block's own path stands for its additions to the residual stream.
    """
    paths = ["embedding_stage"]
    for index, block in enumerate(network.blocks):
        paths += [f"blocks.{index}.{name}" for name, _ in block.named_children()]
        paths.append(f"blocks.{index}")
    return (*paths, *(["last_norm"] if network.last_norm is not None else []))


def emulate(
    network: NeuralEngineEncoder,
    inputs: Sequence[Tensor],
    fp16_modules: Collection[str],
    *,
    round_operations: bool,
) -> Tensor:
    """The network's output (1, L, H) with these modules in fp16.

    Args:
        round_operations: round every operation's output too, not only the weights.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_rounded_weights(network, fp16_modules))
        if round_operations:
            rounding = stack.enter_context(_Rounding())
            stack.enter_context(_scopes(network, frozenset(fp16_modules), rounding))
        result: Tensor = network(*inputs)
    return result


def meets_gates(weights_only: Figures, everything: Figures, margin: float = _MARGIN_DB) -> bool:
    """Whether emulated figures promise an `expected` package."""
    return (
        weights_only.psnr >= FP32_ARITHMETIC.expected + margin
        and everything.psnr >= FP16_OPERATIONS.expected + margin
    )


def choose_fp32_modules(
    network: NeuralEngineEncoder,
    inputs: Sequence[Tensor],
    truth: Tensor,
    n_tokens: int,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[str, ...]:
    """The least set of modules, by error, whose fp32 makes the package `expected`.

    Args:
        inputs: one window, as the network takes it.
        truth: reference hidden states (1, L, H) of that window.
        n_tokens: how many of its rows are real.

    Returns:
        Module paths in program order; empty if fp16 will do. All of them if nothing less will.
    """
    modules = precision_modules(network)

    def figures(fp16: Collection[str], *, round_operations: bool) -> Figures:
        result = emulate(network, inputs, fp16, round_operations=round_operations)
        return compare(truth[0, :n_tokens].numpy(), result[0, :n_tokens].numpy())

    def both(fp16: Collection[str]) -> tuple[Figures, Figures]:
        return figures(fp16, round_operations=False), figures(fp16, round_operations=True)

    if meets_gates(*both(modules)):
        return ()
    noise = {}
    for index, module in enumerate(modules):
        noise[module] = _noise(figures((module,), round_operations=True))
        progress((index + 1) / len(modules))
    for margin in (_MARGIN_DB, 4 * _MARGIN_DB, 8 * _MARGIN_DB):
        kept = _quietest(noise, 10 ** (-(FP16_OPERATIONS.expected + margin) / 10))
        if meets_gates(*both(kept)):
            return tuple(module for module in modules if module not in kept)
    return modules


def _noise(figures: Figures) -> float:
    return float(10 ** (-figures.psnr / 10)) if figures.finite else math.inf


def _quietest(noise: dict[str, float], budget: float) -> list[str]:
    """As many modules as fit the noise budget, quietest first."""
    kept: list[str] = []
    total = 0.0
    for module in sorted(noise, key=noise.__getitem__):
        total += noise[module]
        if total > budget:
            break
        kept.append(module)
    return kept


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
        if path.count(".") == 1:  # a block as such stands for its additions: no weights
            continue
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
    network: NeuralEngineEncoder, fp16: frozenset[str], rounding: _Rounding
) -> Iterator[None]:
    """Switch the rounding on and off as the forward pass enters and leaves modules.

    `Normalise` is one operation in the package: only its output is rounded.
    """
    chosen = frozenset(precision_modules(network))
    outer: list[bool] = []
    handles: list[RemovableHandle] = []

    def enter(path: str, module: nn.Module) -> None:
        known = path in chosen
        fused = isinstance(module, Normalise)
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
