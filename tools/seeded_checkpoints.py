"""GENA-shaped checkpoints with seeded random weights, in the published file layout."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, processors
from torch import Tensor

from converter.conversion.convert import convert
from converter.network.families import family_of
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.structure import EncoderConfig

BERT_BASE = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
SMALL = {
    "vocab_size": 400,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
}


def config_dict(**changes: Any) -> dict[str, Any]:
    """A published-style `config.json`, small unless changed, with keys inference ignores."""
    return {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "auto_map": {"AutoModel": "modeling_bert.BertModel"},
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "pad_token_id": 3,
        "pre_layer_norm": True,
        "last_layer_norm": False,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "transformers_version": "4.17.0",
        "type_vocab_size": 2,
        "use_cache": True,
        **SMALL,
        **changes,
    }


def random_weights(
    config: EncoderConfig, seed: int = 0, outliers: float = 1.0
) -> dict[str, Tensor]:
    """Encoder weights by published names without the prefix: non-trivial norms and biases.

    Args:
        outliers: factor on the scale of six channels in every norm, as trained transformers
            have channels that dwarf the others.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {
            name: p.shape for name, p in family_of(config).encoder(config).state_dict().items()
        }
    weights = {name: _random(name, shape, generator) for name, shape in shapes.items()}
    channels = torch.randperm(config.hidden_size, generator=generator)[:6]
    for name, weight in weights.items():
        if _is_norm_scale(name):
            weight[channels] *= outliers
    return weights


def head_weights(config: EncoderConfig, seed: int = 1) -> dict[str, Tensor]:
    """Weights of the masked-language-model head, by the names of the family's module."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in family_of(config).head(config).state_dict().items()}
    return {name: _random(name, shape, generator) for name, shape in shapes.items()}


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if _is_norm_scale(name):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    if "embeddings" in name:
        return 0.05 * noise
    scaled: Tensor = noise / shape[-1] ** 0.5
    return scaled


def _is_norm_scale(name: str) -> bool:
    return name.endswith(("LayerNorm.weight", "_ln.weight", "norm.weight"))


def make_tokenizer(vocab_size: int = 400) -> Tokenizer:
    """A BPE tokenizer with the special tokens, ids and post-processor of bert-base."""
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    letters = [*"ACGT", "N"]
    tokens, merges = list(letters), []
    frontier = list("ACGT")
    while len(specials) + len(tokens) < vocab_size:
        longer = []
        for left in frontier:
            for right in "ACGT":
                if len(specials) + len(tokens) >= vocab_size:
                    break
                tokens.append(left + right)
                merges.append((left, right))
                longer.append(left + right)
        frontier = longer
    vocab = {token: i for i, token in enumerate(specials + tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="[UNK]"))
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return tokenizer


def make_checkpoint(
    folder: Path,
    *,
    layout: Literal["bin", "safetensors"] = "bin",
    prefix: str = "bert.",
    seed: int = 0,
    outliers: float = 1.0,
    tokenizer_file: Path | None = None,
    **config_changes: Any,
) -> Path:
    """Write a checkpoint as the hub holds it, with the extra keys that real files have."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = config_dict(**config_changes)
    config = GenaBertConfig.from_dict(raw)
    (folder / "config.json").write_text(json.dumps(raw, indent=2))
    tensors = {prefix + n: t for n, t in random_weights(config, seed, outliers).items()}
    tensors |= {f"cls.predictions.{n}": t for n, t in head_weights(config, seed + 1).items()}
    hidden = config.hidden_size
    tensors[prefix + "pooler.dense.weight"] = torch.zeros(hidden, hidden)
    tensors[prefix + "pooler.dense.bias"] = torch.zeros(hidden)
    tensors["cls.seq_relationship.weight"] = torch.zeros(2, hidden)
    if layout == "bin":
        tensors[prefix + "embeddings.position_ids"] = torch.arange(config.max_position_embeddings)[
            None
        ]
        tensors["cls.predictions.decoder.weight"] = tensors[
            prefix + "embeddings.word_embeddings.weight"
        ]
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, config, tokenizer_file)
    return folder


def write_tokenizer(folder: Path, config: EncoderConfig, tokenizer_file: Path | None) -> None:
    """Write a copy of this `tokenizer.json`, or one that goes with the vocabulary."""
    if tokenizer_file is None:
        make_tokenizer(min(config.vocab_size, 4000)).save(str(folder / "tokenizer.json"))
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())


def seeded_bundle(folder: Path) -> Path:
    """Convert and verify a small checkpoint of `make_checkpoint`; `folder`, a bundle."""
    checkpoint = make_checkpoint(folder.with_name(folder.name + "-checkpoint"))
    return convert(str(checkpoint), output=folder).path
