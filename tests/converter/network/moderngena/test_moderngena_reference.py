"""The reference against the network that we did not write: transformers' ModernBERT."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from tests.support.moderngena import PAD, make_moderngena_reference, of_transformers, token_ids
from tools.seeded_moderngena import make_moderngena, moderngena_config_dict

# Sums in another order differ in the last bits of fp32; the values are of the order of 1 to 10.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
NETWORKS: dict[str, dict[str, Any]] = {
    "as published": {"num_hidden_layers": 4},
    "other thetas": {"global_rope_theta": 160_000.0, "local_rope_theta": 1_000.0},
    "local only": {
        "layer_types": ["sliding_attention"] * 2,
        "local_attention": 16,
        "num_attention_heads": 4,
    },
}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("network", NETWORKS)
def test_hidden_states_are_those_of_transformers(network: str, implementation: str) -> None:
    ours = make_moderngena_reference(**NETWORKS[network])
    theirs = of_transformers(ours, implementation)
    for n_tokens in (3, 65, 66, 130, 700, 1024):
        ids = token_ids(n_tokens)
        with torch.no_grad():
            torch.testing.assert_close(ours(ids), theirs(ids).last_hidden_state, **CLOSE)


@pytest.mark.parametrize("n_tokens", [3, 64, 500, 1023])
def test_padding_changes_nothing(n_tokens: int) -> None:
    """Also where all that a row of padding could look at is padding: no NaN comes of it."""
    ours = make_moderngena_reference(num_hidden_layers=4)
    ids = token_ids(n_tokens, 1024)
    with torch.no_grad():
        padded = ours(ids)
        mask = (ids != PAD).long()
        theirs = of_transformers(ours)(ids, attention_mask=mask).last_hidden_state
    assert torch.isfinite(padded).all()
    torch.testing.assert_close(padded[:, :n_tokens], theirs[:, :n_tokens], **CLOSE)
    torch.testing.assert_close(padded[:, :n_tokens], ours(ids[:, :n_tokens]), **CLOSE)


def test_each_layer_is_there() -> None:
    ours = make_moderngena_reference(num_hidden_layers=3)
    ids = token_ids(200)
    with torch.no_grad():
        states = ours.hidden_states(ids)
        theirs = of_transformers(ours)(ids, output_hidden_states=True)
    assert len(states) == 3 + 2  # the embedding's before, the last norm's behind
    for found, expected in zip(states, theirs.hidden_states[:-1], strict=False):
        torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(states[-1], theirs.last_hidden_state, **CLOSE)


@pytest.mark.parametrize("classifier_bias", [True, False])
def test_the_head_gives_the_logits_of_transformers(tmp_path: Path, classifier_bias: bool) -> None:
    from transformers import ModernBertForMaskedLM

    folder = make_moderngena(tmp_path / "c", classifier_bias=classifier_bias)
    checkpoint = load_checkpoint(find_checkpoint(str(folder)))
    head = checkpoint.masked_language_model_head()
    assert head is not None
    # transformers checks the ids of begin and end against the vocabulary.
    raw = moderngena_config_dict(classifier_bias=classifier_bias, bos_token_id=1, eos_token_id=2)
    (folder / "config.json").write_text(json.dumps(raw))
    theirs, report = ModernBertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = token_ids(90)
    with torch.no_grad():
        logits = head(checkpoint.encoder()(ids)[0])
        torch.testing.assert_close(logits, theirs.eval()(ids).logits[0], **CLOSE)
