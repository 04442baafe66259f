"""The run: steps, their log, and what lets a killed run continue to the same weights."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from converter.replacing import replace_file, replacement
from tools.mini.data import Corpus, TokenStream
from tools.mini.network import MaskedLanguageModel, untrained
from tools.mini.objective import masked_losses, training_batch
from tools.mini.optimizers import make_optimizers
from tools.mini.recipe import Recipe
from tools.mini.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Checkpoints:
    """The run so far, in one file that is replaced whole."""

    path: Path

    def save(
        self, step: int, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """`step`: number of steps done."""
        state = {
            "step": step,
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        with replacement(self.path) as file:
            torch.save(state, file)

    def load(self) -> dict[str, Any] | None:
        """Keys step, model, optimizers; None before the first `save`."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def restore(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
        """Put the last `save` into both; number of steps done, 0 before the first."""
        if (state := self.load()) is None:
            return 0
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return int(state["step"])


def train(
    corpus: Corpus,
    recipe: Recipe,
    steps: int,
    work: Path,
    *,
    device: torch.device,
    checkpoint_every: int = 100,
) -> MaskedLanguageModel:
    """Train to `steps`, continuing what `work` holds."""
    work.mkdir(parents=True, exist_ok=True)
    _refuse_another_recipe(recipe, work / "recipe.json")
    tokenizer = _tokenizer(corpus, recipe, work / "tokenizer.json")
    streams = {
        species: TokenStream.of([c for c in corpus.training if c.species == species], tokenizer)
        for species in recipe.species
    }
    validation = TokenStream.of(corpus.held_out, tokenizer)

    model = untrained(recipe).to(device)
    optimizers = make_optimizers(model, recipe)
    checkpoints = Checkpoints(work / "checkpoint.pt")
    done = checkpoints.restore(model, optimizers)
    _refuse_moved_decay(recipe, done, steps, work / "steps.json")

    log = (work / "log.jsonl").open("a", encoding="utf-8")
    recent: list[float] = []
    began = time.monotonic()
    with log, tqdm(total=steps, initial=done, unit="step", disable=None) as bar:
        for step in range(done, steps):
            loss = _step(model, optimizers, recipe, streams, step, steps, device)
            recent.append(loss)
            bar.update()
            bar.set_postfix(loss=f"{np.mean(recent[-50:]):.4f}")
            if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                checkpoints.save(step + 1, model, optimizers)
                held_out, _ = masked_losses(
                    model, validation, recipe, length=recipe.short_window, windows=64
                )
                line = {
                    "step": step + 1,
                    "loss": round(float(np.mean(recent)), 4),
                    "held_out_loss": round(float(held_out.mean()), 4),
                    "seconds": round(time.monotonic() - began, 1),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
                recent.clear()
    return model


def _step(
    model: MaskedLanguageModel,
    optimizers: Sequence[torch.optim.Optimizer],
    recipe: Recipe,
    streams: Mapping[str, TokenStream],
    step: int,
    steps: int,
    device: torch.device,
) -> float:
    """One update; returns the loss before it, in nats per chosen token."""
    batch = training_batch(streams, recipe, step, steps)
    share = recipe.learning_rate_share(step, steps)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * optimizer.defaults["lr"]
    dtype = getattr(torch, recipe.arithmetic)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(batch.input_ids.to(device), batch.chosen.to(device))
    loss = F.cross_entropy(logits.float(), batch.labels.to(device))
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def _tokenizer(corpus: Corpus, recipe: Recipe, path: Path) -> Tokenizer:
    if not path.exists():
        text = train_tokenizer(corpus.training, recipe).to_str(pretty=True)
        replace_file(path, text.encode())
    return Tokenizer.from_file(str(path))


def _refuse_another_recipe(recipe: Recipe, path: Path) -> None:
    text = json.dumps(asdict(recipe), indent=1)
    if not path.exists():
        replace_file(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path} is of another recipe; give another --work or remove it")


def _refuse_moved_decay(recipe: Recipe, done: int, steps: int, path: Path) -> None:
    """Steps that are done must be those that a run of `steps` has from its start."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else steps
    if before != steps and done > min(recipe.decay_start(before), recipe.decay_start(steps)):
        raise ValueError(
            f"{done} steps are done and the learning rate of a run of {before} or {steps} steps "
            f"is falling by then: this run must end at {before}"
        )
    replace_file(path, json.dumps(steps).encode())
