"""The checkpoint that comes out of a run."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from converter.digests import sha256_bytes
from converter.replacing import replace_file
from tools.mini.network import MaskedLanguageModel
from tools.mini.recipe import Recipe


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
        replace_file(out / name, content)
    return {name: sha256_bytes(content) for name, content in files.items()}
