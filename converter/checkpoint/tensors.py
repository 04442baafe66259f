"""A weights file -> tensors by name, or a sentence that says why not.

Nothing in a file is executed: `.bin` files are opened with `weights_only=True`.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from converter.errors import CheckpointError

_PREFIX = "bert."
# What the libraries raise for a damaged file; torch gives OSError where a zip is cut short.
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, by its published name less "bert.".

    Raises:
        CheckpointError: the file cannot be read, is no plain file of tensors, or holds a name
            twice, with and without the prefix.
    """
    return _strip_prefix(_read(path), path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as weights ({reason}). It is truncated, or not a plain file "
            "of tensors; fetch it again."
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} is not a plain state dict of tensors.")
    return {str(name): tensor for name, tensor in loaded.items()}


def _strip_prefix(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    stripped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix(_PREFIX)
        if short in stripped:
            raise CheckpointError(f"{path} holds {short} twice, with and without 'bert.'.")
        stripped[short] = tensor
    return stripped
