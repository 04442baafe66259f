import hashlib
import re

from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from tests.support.paths import ROOT
from tools.mini_card import FILES, card, verdict

SHIPPED = ROOT / "models" / "gena-mini"


def test_the_card_quotes_the_files_as_they_are() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for name in FILES:
        digest = hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest()
        assert f"{digest}  {name}" in text
    assert text == card(SHIPPED)
    assert not re.search(r"\$\w", text)


def test_the_shipped_checkpoint_gives_features_of_the_published_shape() -> None:
    checkpoint = load_checkpoint(find_checkpoint(str(SHIPPED)))
    config = checkpoint.config
    assert (config.hidden_size, config.max_position_embeddings) == (768, 512)
    assert (config.pad_token_id, config.pre_layer_norm, config.last_layer_norm) == (3, True, False)
    assert checkpoint.head is not None
    assert (SHIPPED / "model.safetensors").stat().st_size <= 35_000_000


def test_the_card_says_which_features_are_better() -> None:
    def figure(mean: float, margin: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - margin, "high": mean + margin}

    accuracies = {"trained": 0.5, "untrained": 0.6, "4-mers": 0.48}
    row = {
        "name": "this or that",
        "accuracy": {kind: figure(mean, 0.02) for kind, mean in accuracies.items()},
        "trained_minus": {"untrained": figure(-0.1, 0.03), "4-mers": figure(0.02, 0.03)},
    }
    assert verdict(row) == (
        "- this or that: 50.0 %, worse than the same network untrained (60.0 %) "
        "and not distinguishable from 4-mers (48.0 %)."
    )
    row["trained_minus"]["4-mers"] = figure(0.04, 0.03)
    assert verdict(row).endswith("and better than 4-mers (48.0 %).")
