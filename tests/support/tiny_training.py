"""A training run of seconds.

python -m tests.support.tiny_training DATA FOLDER: the same, slowly, so that it can be killed.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.support.synthetic import write_sources
from tools.mini.data import load_corpus
from tools.mini.export import export
from tools.mini.recipe import CONFIG, Recipe
from tools.mini.training import train

TINY = Recipe(
    config={
        **CONFIG,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
        "vocab_size": 64,
    },
    tokenizer_letters=50_000,
    tokens_per_batch=96,
    short_window=16,
    warmup_steps=4,
    decay_share=0.3,
)
STEPS = 60


def run(data: Path, folder: Path, steps: int) -> dict[str, str]:
    """Train and export; name to SHA-256 of the files."""
    torch.set_num_threads(1)  # the process that is killed knows no fixtures
    corpus = load_corpus(write_sources(data))
    work = folder / "work"
    device = torch.device("cpu")
    model = train(corpus, TINY, steps, work, device=device, checkpoint_every=7)
    return export(model, TINY, {"steps": steps}, work, folder / "out")


def slow_down() -> None:
    """Leave time to kill."""
    step = torch.optim.AdamW.step

    def slow_step(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.05)
        return step(*args, **kwargs)

    torch.optim.AdamW.step = slow_step  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down()
    run(Path(sys.argv[1]), Path(sys.argv[2]), STEPS)
