import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from tests.support.paths import ROOT
from tests.support.synthetic import write_sources
from tests.support.tiny_training import STEPS, TINY, run
from tools.mini import training
from tools.mini.data import load_corpus
from tools.mini.export import export
from tools.mini.recipe import Recipe
from tools.mini.training import train


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
    real_step = training._step

    def step_until_36(*arguments: Any) -> float:
        if arguments[4] == 36:
            raise KeyboardInterrupt
        return real_step(*arguments)

    monkeypatch.setattr(training, "_step", step_until_36)
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
    checkpoint = load_checkpoint(find_checkpoint(str(folder / "out")))
    assert checkpoint.config.pre_layer_norm
    assert not checkpoint.config.last_layer_norm
    assert checkpoint.head is not None
    tensors = load_file(folder / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(name.startswith(("bert.", "cls.predictions.")) for name in tensors)
    # It learnt something: the loss on training DNA fell below that of equal guesses.
    log = (folder / "work" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["loss"] < json.loads(log[0])["loss"]
