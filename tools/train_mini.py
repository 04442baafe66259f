"""Train gena-mini: from three files of DNA in Debian packages to a GENA-LM checkpoint.

    python -m tools.train_mini --data /path/to/debs

Tokenizer, masked-language-model training and export, in one command. Progress is saved in
`--work`; killed at any time, the same command continues and gives the same weights, bit for bit,
on the same machine and number of threads (batch k depends on the seed and on k only).

What makes two CPU cores enough: matrices are multiplied in bfloat16 (4 to 5 times faster than
float32 where the CPU has AVX512-BF16 or AMX; parameters and optimizer stay in float32), the last
layer is computed at the masked positions only, and hidden matrices are updated by Muon, which
needs fewer tokens than AdamW.

The learning rate warms up, stays, and falls linearly to zero over the last part of `--steps`.
Until that part begins, the same run may be continued with another `--steps`: the result is the
one that this number would have given from the start.

On a machine that others use as well, set OMP_WAIT_POLICY=PASSIVE: threads that spin while they
wait for each other made this run two to three times slower.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from converter.network.config import EncoderConfig
from converter.network.reference import GenaEncoder, MaskedLanguageModelHead, PreNormLayer
from tools.mini_data import (
    Contig,
    Corpus,
    TokenStream,
    cut,
    find_sources,
    load_corpus,
    reverse_complement,
)

SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")  # ids 0 to 4, as published
UNK, CLS, SEP, PAD, MASK = range(5)

# `config.json` of the published pre-LN base model with a smaller vocabulary and network.
CONFIG: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "last_layer_norm": False,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 2,
    "pad_token_id": PAD,
    "position_embedding_type": "absolute",
    "pre_layer_norm": True,
    "torch_dtype": "float16",
    "type_vocab_size": 2,
    "vocab_size": 4096,
}


@dataclass(frozen=True)
class Recipe:
    """Everything but the number of steps that decides what the weights become."""

    seed: int = 0
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    # Share of the training windows that each species gives; E. coli has 1/6 of the DNA.
    species: dict[str, float] = field(
        default_factory=lambda: {"ecoli": 0.4, "fly": 0.59, "lambda": 0.01}
    )
    # Letters of DNA that the tokenizer is trained on, shared out as above, and the pieces
    # that they are cut into (without a pre-tokenizer BPE takes each piece for one word).
    tokenizer_letters: int = 20_000_000
    tokenizer_piece: int = 200
    tokens_per_batch: int = 8192
    short_window: int = 128
    # Share of the batches that have full-length windows, before and during the decay.
    long_share: float = 0.15
    long_share_in_decay: float = 0.6
    masked_share: float = 0.15
    # Of Muon (hidden matrices; its updates are scaled to the size of AdamW's) and of AdamW.
    muon_learning_rate: float = 2e-3
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    decay_share: float = 0.5
    # Strong: it forgets the noise of the first weights within some 500 to 1,000 steps; what is left
    # of steps in chance directions fades while the learning rate falls.
    weight_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95
    gradient_norm: float = 1.0
    # Of matrix products, forwards and backwards: float32 or bfloat16.
    arithmetic: str = "bfloat16"

    @property
    def long_window(self) -> int:
        return int(self.config["max_position_embeddings"])

    def decay_start(self, steps: int) -> int:
        """First step of the decay in a run of `steps` steps."""
        return steps - round(steps * self.decay_share)

    def learning_rate_share(self, step: int, steps: int) -> float:
        """Of the learning rates at `step`: rises to 1, stays, falls to 0; steps count from 0."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        decay = min(1.0, (steps - step) / (steps - self.decay_start(steps) + 1))
        return warmup * decay


class MaskedLanguageModel(nn.Module):
    """GENA-LM's encoder and BERT's masked-language-model head; names as in a published file."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.bert = GenaEncoder(config)
        self.cls = nn.ModuleDict({"predictions": MaskedLanguageModelHead(config)})

    def forward(self, input_ids: Tensor, chosen: Tensor) -> Tensor:
        """Logits (N, V) at the N chosen tokens, row by row.

        Args:
            input_ids: (B, L), no padding.
            chosen: (B, L) bool, the same number of tokens in each row.
        """
        x = self.bert.embeddings(input_ids)
        *layers, last = self.bert.encoder.layer
        for layer in layers:
            x = _layer_output(layer, x)
        # No other row of the last layer reaches the loss.
        x = _layer_output(last, x, chosen.nonzero()[:, 1].view(len(chosen), -1))
        words = self.bert.embeddings.word_embeddings.weight
        logits: Tensor = self.cls["predictions"](x.flatten(0, 1), words)
        return logits


def _layer_output(layer: PreNormLayer, x: Tensor, positions: Tensor | None = None) -> Tensor:
    """`layer(x)` for windows without padding, or its rows at some positions only.

    Args:
        x: (B, L, H).
        positions: (B, K) int64.
    """
    attention = layer.attention.self
    context = layer.pre_attention_ln(x)
    asking = context
    if positions is not None:
        index = positions[:, :, None].expand(-1, -1, x.shape[-1])
        x, asking = x.gather(1, index), context.gather(1, index)
    query, key, value = (
        projection(states).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for projection, states in (
            (attention.query, asking),
            (attention.key, context),
            (attention.value, context),
        )
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + layer.attention.output(mixed)
    result: Tensor = x + layer.output(F.gelu(layer.intermediate(layer.post_attention_ln(x))))
    return result


def untrained(recipe: Recipe) -> MaskedLanguageModel:
    """The network before its first step: BERT's initialisation from the recipe's seed."""
    generator = torch.Generator().manual_seed(recipe.seed)
    model = MaskedLanguageModel(EncoderConfig.from_dict(recipe.config))
    std = float(recipe.config["initializer_range"])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
    return model


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(contigs: Sequence[Contig], recipe: Recipe) -> Tokenizer:
    """BPE as GENA-LM has it: no normalizer, no pre-tokenizer, [CLS] and [SEP] around."""
    vocab_size = int(recipe.config["vocab_size"])
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list("ACGTN"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_pieces(contigs, recipe), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix=" ")
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"the DNA gives {tokenizer.get_vocab_size()} tokens; the network has {vocab_size}"
        )
    return tokenizer


def _tokenizer_pieces(contigs: Sequence[Contig], recipe: Recipe) -> Iterator[str]:
    """Random pieces of either strand, without N, in the species' shares."""
    generator = np.random.default_rng((recipe.seed, 1))
    for species, share in recipe.species.items():
        pieces = [
            piece
            for contig in contigs
            if contig.species == species
            for strand in (contig.sequence, reverse_complement(contig.sequence))
            for piece in cut(strand, recipe.tokenizer_piece)
            if "N" not in piece
        ]
        wanted = round(recipe.tokenizer_letters * share / recipe.tokenizer_piece)
        for index in generator.permutation(len(pieces))[:wanted]:
            yield pieces[index]


# ---------------------------------------------------------------- batches


@dataclass(frozen=True)
class Batch:
    """`input_ids` (B, L) after masking; `chosen` (B, L) bool; `labels` (N,): what was there."""

    input_ids: Tensor
    chosen: Tensor
    labels: Tensor


def mask_tokens(tokens: NDArray[np.int32], recipe: Recipe, generator: np.random.Generator) -> Batch:
    """Add [CLS] and [SEP] and mask as BERT does.

    Of each window the same number of tokens is chosen; of those 80 % become [MASK], 10 % a
    random token that is not special, 10 % stay.

    Args:
        tokens: (B, L - 2), no special tokens.
    """
    rows, length = tokens.shape
    count = max(1, round(length * recipe.masked_share))
    order = generator.random((rows, length)).argsort(axis=1)
    chosen = np.zeros((rows, length), dtype=bool)
    np.put_along_axis(chosen, order[:, :count], True, axis=1)
    fate = generator.random((rows, length))
    random_ids = generator.integers(
        len(SPECIAL_TOKENS), int(recipe.config["vocab_size"]), size=(rows, length)
    )
    masked = np.where(chosen & (fate < 0.8), MASK, tokens)
    masked = np.where(chosen & (fate >= 0.8) & (fate < 0.9), random_ids, masked)
    around = ((0, 0), (1, 1))
    input_ids = np.pad(masked, around)
    input_ids[:, 0], input_ids[:, -1] = CLS, SEP
    return Batch(
        torch.from_numpy(input_ids.astype(np.int64)),
        torch.from_numpy(np.pad(chosen, around)),
        torch.from_numpy(tokens[chosen].astype(np.int64)),
    )


def training_batch(
    streams: Mapping[str, TokenStream], recipe: Recipe, step: int, steps: int
) -> Batch:
    """Batch number `step`: windows of one length, species drawn in their shares."""
    generator = np.random.default_rng((recipe.seed, 2, step))
    decaying = step >= recipe.decay_start(steps)
    long_share = recipe.long_share_in_decay if decaying else recipe.long_share
    length = recipe.long_window if generator.random() < long_share else recipe.short_window
    rows = max(1, recipe.tokens_per_batch // length)
    counts = generator.multinomial(rows, list(recipe.species.values()))
    windows = [
        streams[species].sample(count, length - 2, generator)
        for species, count in zip(recipe.species, counts, strict=True)
        if count
    ]
    return mask_tokens(np.concatenate(windows), recipe, generator)


def masked_losses(
    model: MaskedLanguageModel, stream: TokenStream, recipe: Recipe, *, length: int, windows: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Guess the masked tokens of fixed random windows.

    Returns:
        losses in nats and what was masked, (W, K) each: W windows of `length` tokens with the
        special ones, K chosen tokens a window.
    """
    generator = np.random.default_rng((recipe.seed, 3, length))
    device = next(model.parameters()).device
    losses: list[Tensor] = []
    labels: list[Tensor] = []
    for first in range(0, windows, 8):
        rows = min(8, windows - first)
        batch = mask_tokens(stream.sample(rows, length - 2, generator), recipe, generator)
        with torch.inference_mode():
            logits = model(batch.input_ids.to(device), batch.chosen.to(device)).float().cpu()
        losses.append(F.cross_entropy(logits, batch.labels, reduction="none").view(rows, -1))
        labels.append(batch.labels.view(rows, -1))
    return torch.cat(losses).numpy(), torch.cat(labels).numpy()


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class Checkpoints:
    """The run so far, in one file that is replaced atomically."""

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
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Keys step, model, optimizers; None before the first `save`."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state


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
    optimizers = _optimizers(model, recipe)
    checkpoints = Checkpoints(work / "checkpoint.pt")
    done = 0
    if (state := checkpoints.load()) is not None:
        done = int(state["step"])
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
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
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def _optimizers(model: nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the hidden matrices, AdamW for the rest; biases and norms don't decay."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim > 1 and id(p) not in tables]
    embeddings = [p for p in parameters if id(p) in tables]
    vectors = [p for p in parameters if p.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return (
        torch.optim.Muon(
            matrices,
            lr=recipe.muon_learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True),
    )


def _tokenizer(corpus: Corpus, recipe: Recipe, path: Path) -> Tokenizer:
    if not path.exists():
        text = train_tokenizer(corpus.training, recipe).to_str(pretty=True)
        _write_atomically(path, text.encode())
    return Tokenizer.from_file(str(path))


def _refuse_another_recipe(recipe: Recipe, path: Path) -> None:
    text = json.dumps(asdict(recipe), indent=1)
    if not path.exists():
        _write_atomically(path, text.encode())
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
    _write_atomically(path, json.dumps(steps).encode())


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


# ---------------------------------------------------------------- export


def export(
    model: MaskedLanguageModel, recipe: Recipe, provenance: Mapping[str, Any], work: Path, out: Path
) -> dict[str, str]:
    """Write the checkpoint in the layout of a published one; returns name to SHA-256.

    Weights are fp16. The decoder of the head is the word embeddings and not stored twice.
    """
    weights = {name: t.detach().cpu().half() for name, t in model.state_dict().items()}
    files = {
        "config.json": json.dumps(recipe.config, indent=2).encode() + b"\n",
        "tokenizer.json": (work / "tokenizer.json").read_bytes(),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        "training.json": json.dumps({**provenance, "recipe": asdict(recipe)}, indent=2).encode()
        + b"\n",
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write_atomically(out / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_mini",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], help="files, folders or .deb files with the DNA"
    )
    parser.add_argument("--work", type=Path, default=Path("models/.gena-mini-training"))
    parser.add_argument("--out", type=Path, default=Path("models/gena-mini"))
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--export", action="store_true", help="only write out the last saved state of the run"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(seed=options.seed)
    sources = find_sources(options.data, options.work / "unpacked")
    if options.export:
        state = Checkpoints(options.work / "checkpoint.pt").load()
        if state is None:
            parser.error(f"{options.work} holds no run")
        model, done = untrained(recipe), int(state["step"])
        model.load_state_dict(state["model"])
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        done = options.steps
        model = train(load_corpus(sources), recipe, done, options.work, device=device)
    provenance = {"steps": done, "sources": sources.sha256()}
    for name, digest in export(model, recipe, provenance, options.work, options.out).items():
        print(f"{digest}  {options.out / name}")


if __name__ == "__main__":
    main()
