import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import tools.train_mini
from converter.checkpoint.loading import load_checkpoint
from tests.support.paths import ROOT
from tests.support.synthetic import write_sources
from tests.support.tiny_training import STEPS, TINY, run
from tools.mini_data import load_corpus
from tools.train_mini import (
    MASK,
    SPECIAL_TOKENS,
    Recipe,
    export,
    mask_tokens,
    train,
    train_tokenizer,
    untrained,
)

PUBLISHED = ROOT.parent / "shared" / "data" / "gena-lm-bert-base" / "tokenizer.json"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, run(folder / "data", folder, STEPS)


def test_a_killed_run_continues_to_the_same_bytes(
    tmp_path: Path, uninterrupted: tuple[Path, dict[str, str]]
) -> None:
    _, expected = uninterrupted
    module = "tests.support.tiny_training"
    command = [sys.executable, "-m", module, str(tmp_path / "data"), str(tmp_path)]
    log = tmp_path / "work" / "log.jsonl"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    done = json.loads(log.read_text().splitlines()[-1])["step"]
    assert 0 < done < STEPS
    assert run(tmp_path / "data", tmp_path, STEPS) == expected


def test_the_end_may_move_until_the_decay_begins(
    tmp_path: Path,
    uninterrupted: tuple[Path, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, expected = uninterrupted
    work, corpus = tmp_path / "work", load_corpus(write_sources(tmp_path))
    device = torch.device("cpu")
    real_step = tools.train_mini._step

    def step_until_36(*arguments: Any) -> float:
        if arguments[4] == 36:
            raise KeyboardInterrupt
        return real_step(*arguments)

    monkeypatch.setattr(tools.train_mini, "_step", step_until_36)
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, 200, work, device=device, checkpoint_every=7)
    monkeypatch.undo()
    model = train(corpus, TINY, STEPS, work, device=device, checkpoint_every=7)
    assert export(model, TINY, {"steps": STEPS}, work, tmp_path / "out") == expected
    with pytest.raises(ValueError, match="must end at 60"):
        train(corpus, TINY, 80, work, device=device)


def test_another_recipe_does_not_continue_a_run(
    uninterrupted: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, _ = uninterrupted
    corpus = load_corpus(write_sources(tmp_path))
    other = Recipe(**{**vars(TINY), "seed": 1})
    with pytest.raises(ValueError, match="another recipe"):
        train(corpus, other, STEPS, folder / "work", device=torch.device("cpu"))


def test_the_exported_folder_is_a_checkpoint(uninterrupted: tuple[Path, dict[str, str]]) -> None:
    folder, _ = uninterrupted
    checkpoint = load_checkpoint(str(folder / "out"))
    assert checkpoint.config.pre_layer_norm
    assert not checkpoint.config.last_layer_norm
    assert checkpoint.head is not None
    tensors = load_file(folder / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(name.startswith(("bert.", "cls.predictions.")) for name in tensors)
    # It learnt something: the loss on training DNA fell below that of equal guesses.
    log = (folder / "work" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["loss"] < json.loads(log[0])["loss"]


def test_the_untrained_network_depends_on_the_seed_only() -> None:
    first, again = untrained(TINY).state_dict(), untrained(TINY).state_dict()
    other = untrained(Recipe(**{**vars(TINY), "seed": 1})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], other[name])


def test_logits_and_gradients_are_those_of_the_reference_network() -> None:
    """The last layer, computed at the chosen tokens only, is what the whole encoder gives there."""
    model = untrained(TINY).double()
    with torch.no_grad():  # scores and norms that matter
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    generator = np.random.default_rng(0)
    batch = mask_tokens(generator.integers(5, 64, size=(3, 46), dtype=np.int32), TINY, generator)

    def gradients(logits: torch.Tensor) -> list[torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    hidden_states = model.bert(batch.input_ids)[batch.chosen]
    words = model.bert.embeddings.word_embeddings.weight
    expected = model.cls["predictions"](hidden_states, words)
    logits = model(batch.input_ids, batch.chosen)
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(gradients(logits), gradients(expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_masking_follows_bert() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 64, size=(500, 100), dtype=np.int32)
    batch = mask_tokens(tokens, TINY, generator)
    assert batch.input_ids.shape == (500, 102)
    assert (batch.chosen.sum(dim=1) == 15).all()
    assert not batch.chosen[:, [0, -1]].any()
    inner = torch.from_numpy(tokens.astype(np.int64))
    assert torch.equal(batch.labels, inner[batch.chosen[:, 1:-1]])
    untouched = ~batch.chosen[:, 1:-1]
    assert torch.equal(batch.input_ids[:, 1:-1][untouched], inner[untouched])
    shown = batch.input_ids[batch.chosen]
    assert (shown == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    # One random token in 59 is the token itself.
    assert (shown == batch.labels).float().mean().item() == pytest.approx(0.1 + 0.1 / 59, abs=0.02)
    assert not ((shown < len(SPECIAL_TOKENS)) & (shown != MASK)).any()


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    shares = [TINY.learning_rate_share(step, 100) for step in range(101)]
    assert shares[0] == 1 / 4
    assert shares[3:70] == [1] * 67
    assert shares[69:] == sorted(set(shares[69:]), reverse=True)
    assert 0 < shares[99] < 1 / 20
    assert shares[100] == 0


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not here")
@pytest.mark.parametrize("which", ["trained here", "shipped"])
def test_tokenizer_has_the_specials_and_template_of_the_published_one(
    which: str, tmp_path: Path
) -> None:
    if which == "shipped":
        ours = json.loads((ROOT / "models" / "gena-mini" / "tokenizer.json").read_text())
    else:
        contigs = load_corpus(write_sources(tmp_path)).training
        ours = json.loads(train_tokenizer(contigs, TINY).to_str())
    published = json.loads(PUBLISHED.read_text())
    same = (
        "added_tokens",
        "post_processor",
        "normalizer",
        "pre_tokenizer",
        "truncation",
        "padding",
    )
    for key in same:
        assert ours[key] == published[key], key
    assert ours["model"]["unk_token"] == published["model"]["unk_token"]
    tokenizer = Tokenizer.from_str(json.dumps(ours))
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert all(tokenizer.token_to_id(letter) is not None for letter in "ACGTN")
    assert tokenizer.encode("N").ids == [1, tokenizer.token_to_id("N"), 2]
