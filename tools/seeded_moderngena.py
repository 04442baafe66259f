"""modernGENA-shaped checkpoints with seeded random weights, in the file layout of transformers."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from converter.network.moderngena.config import ModernGenaConfig
from tools.seeded_checkpoints import SMALL, head_weights, random_weights, write_tokenizer

MODERNGENA_BASE = {
    "vocab_size": 32768,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
}
MODERNGENA_LARGE = {
    "vocab_size": 32768,
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "intermediate_size": 2624,
}


def moderngena_config_dict(**changes: Any) -> dict[str, Any]:
    """A `config.json` with transformers' older keys, small unless changed."""
    return {
        "architectures": ["ModernBertForMaskedLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 50281,  # beyond the vocabulary, as the library's defaults leave it
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "cls_token_id": 1,
        "decoder_bias": True,
        "eos_token_id": 50282,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 10000.0,
        "hidden_activation": "gelu",
        "initializer_range": 0.02,
        "local_attention": 128,
        "local_rope_theta": 10000.0,
        "max_position_embeddings": 1024,
        "mlp_bias": False,
        "model_type": "modernbert",
        "norm_bias": False,
        "norm_eps": 1e-5,
        "pad_token_id": 3,
        "sep_token_id": 2,
        "torch_dtype": "float32",
        "transformers_version": "4.48.0",
        **SMALL,
        **changes,
    }


def make_moderngena(
    folder: Path,
    *,
    prefix: str = "model.",
    seed: int = 0,
    outliers: float = 1.0,
    tokenizer_file: Path | None = None,
    **config_changes: Any,
) -> Path:
    """Write a checkpoint as the hub holds it: encoder and masked-language-model head."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = moderngena_config_dict(**config_changes)
    config = ModernGenaConfig.from_dict(raw)
    (folder / "config.json").write_text(json.dumps(raw, indent=2))
    tensors = {prefix + n: t for n, t in random_weights(config, seed, outliers).items()}
    tensors |= head_weights(config, seed + 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, config, tokenizer_file)
    return folder
