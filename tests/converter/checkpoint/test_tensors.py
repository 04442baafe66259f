"""Weights files: what is read, and what is refused without being run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from converter.checkpoint.tensors import read_tensors
from converter.errors import CheckpointError
from tools.seeded_checkpoints import make_checkpoint

QUERY = "encoder.layer.1.attention.self.query.weight"
BIN = "pytorch_model.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint")


def stored(folder: Path) -> dict[str, Tensor]:
    """The file's tensors, read without the converter."""
    loaded: dict[str, Tensor] = torch.load(folder / BIN, weights_only=True)
    return loaded


def test_names_lose_their_prefix_and_nothing_else(folder: Path) -> None:
    tensors = stored(folder)
    found = read_tensors(folder / BIN, "bert.")
    assert len(found) == len(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name.removeprefix("bert.")], tensor), name


def test_a_weight_given_with_and_without_prefix_is_an_error(folder: Path) -> None:
    torch.save({**stored(folder), QUERY: torch.zeros(64, 64)}, folder / BIN)
    with pytest.raises(CheckpointError, match="twice"):
        read_tensors(folder / BIN, "bert.")


@pytest.mark.parametrize("layout", ["bin", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_an_error(tmp_path: Path, layout: Any, kept: float) -> None:
    folder = make_checkpoint(tmp_path / "c", layout=layout)
    path = next(p for p in folder.iterdir() if p.suffix in (".bin", ".safetensors"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=f"{path.name} cannot be read"):
        read_tensors(path, "bert.")


class _Payload:
    """Unpickled by a careless loader, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.target, "owned"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "legacy torch", "plain pickle"])
def test_code_in_a_bin_file_is_refused_and_not_run(folder: Path, tmp_path: Path, how: str) -> None:
    target = tmp_path / "owned"
    content = {**stored(folder), "bert.extra": _Payload(target)}
    if how == "plain pickle":
        (folder / BIN).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / BIN, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match=r"calls Python code .*was not run"):
        read_tensors(folder / BIN, "bert.")
    assert not target.exists()
    # The payload works: it is the loader that refuses it.
    if how == "plain pickle":
        pickle.loads((folder / BIN).read_bytes())  # noqa: S301 - written above
        assert target.exists()


def test_old_style_bin_files_are_read(folder: Path) -> None:
    torch.save(stored(folder), folder / BIN, _use_new_zipfile_serialization=False)
    assert read_tensors(folder / BIN, "bert.")[QUERY].shape == (64, 64)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, torch.zeros(2)])
def test_a_file_that_is_no_state_dict_is_an_error(folder: Path, content: Any) -> None:
    torch.save(content, folder / BIN)
    with pytest.raises(CheckpointError, match="state dict"):
        read_tensors(folder / BIN, "bert.")
