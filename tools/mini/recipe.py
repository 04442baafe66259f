"""What decides the weights of gena-mini, but for the number of steps."""

from dataclasses import dataclass, field
from typing import Any

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
