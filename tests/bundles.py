"""Small bundles whose package is a few bytes: enough for all that only moves files about."""

from pathlib import Path

import numpy as np

from converter.bundle import (
    GOLDEN,
    PACKAGE,
    TOKENIZER,
    BuildOptions,
    Manifest,
    write_manifest,
)
from converter.config import EncoderConfig

CONFIG = EncoderConfig(
    vocab_size=400,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=128,
    max_position_embeddings=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=3,
    pre_layer_norm=True,
    last_layer_norm=False,
)


def fill(folder: Path, content: str = "weights") -> Manifest:
    """Write the files of a bundle and its manifest."""
    weights = folder / PACKAGE / "Data" / "weight.bin"
    weights.parent.mkdir(parents=True)
    weights.write_text(content)
    (folder / TOKENIZER).write_text("{}")
    np.savez(
        folder / GOLDEN,
        input_ids=np.full((1, 512), 3, np.int32),
        reference=np.zeros((1, 512, 64), np.float32),
    )
    return write_manifest(
        folder,
        model="lab/model",
        commit=None,
        checkpoint_sha256={"config": "0" * 64, "weights": "1" * 64, "tokenizer": "2" * 64},
        config=CONFIG,
        functions={512: "length_512", 128: "length_128"},
        options=BuildOptions(),
        precision={"chosen": "fp16", "fp32_operations": [], "reason": "expected"},
        fidelity={"fp16_db": 71.25, "flag": "expected"},
        versions={"coremltools": "9.0"},
    )
