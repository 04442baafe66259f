"""A weights file -> tensors by name, or a sentence that says why not.

Nothing in a file is executed: `.bin` files are looked at first (`converter.checkpoint.pickles`),
and then opened with `weights_only=True`.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from converter.checkpoint.pickles import MOST_LIST_BYTES, is_archive, require_only_tensors
from converter.errors import CheckpointError, brief
from converter.panics import panics_as_errors

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class StoredTensors(dict[str, Tensor]):
    """Tensors by their published names less the encoder's prefix.

    Attributes:
        outside: names without that prefix, in a file where others have it.
    """

    outside: frozenset[str] = frozenset()


def read_tensors(path: Path, prefix: str) -> StoredTensors:
    """Every tensor of a file, by its published name less the encoder's prefix.

    Args:
        prefix: such as "bert."; where no name has it, the file holds an encoder alone.

    Raises:
        CheckpointError: the file cannot be read, is no plain file of tensors, or holds a name
            twice, with and without the prefix.
    """
    return _strip_prefix(_read(path), prefix, path)


def why_not_numbers(tensor: Tensor) -> str | None:
    """What keeps a tensor from being weights, to complete "NAME ..."; None where nothing does."""
    if tensor.dtype not in _DTYPES:
        return f"holds {_short(tensor.dtype)}; weights are {', '.join(map(_short, _DTYPES))}"
    if not torch.isfinite(tensor.float()).all():
        return "holds values that are not finite numbers"
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"), panics_as_errors():
            loaded = _load(path)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile file makes the libraries raise anything
        raise CheckpointError(
            f"{path} cannot be read as weights ({_reason(error)}). It is truncated, or not a plain "
            "file of tensors; fetch it again."
        ) from error
    # Attributes from the file may hide the methods of its dict.
    items = dict.items(loaded) if isinstance(loaded, dict) else ()
    tensors = {n: t.detach() for n, t in items if isinstance(n, str) and isinstance(t, Tensor)}
    if not isinstance(loaded, dict) or len(tensors) < len(items):
        raise CheckpointError(f"{path} is not a plain state dict of tensors.")
    return tensors


def _reason(error: Exception) -> str:
    # PyTorch's own words advise to open the file with the code in it.
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it builds more than a dict of tensors"
    return brief(error)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MOST_LIST_BYTES:
                raise ValueError("its list of tensors is far too long")
        return load_file(path)
    require_only_tensors(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive(path))


def _strip_prefix(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> StoredTensors:
    stripped = StoredTensors()
    for name, tensor in tensors.items():
        short = name.removeprefix(prefix)
        if short in stripped:
            raise CheckpointError(
                f"{path} holds {brief(short)} twice, with and without {prefix!r}."
            )
        stripped[short] = tensor
    without = frozenset(name for name in tensors if not name.startswith(prefix))
    stripped.outside = without if len(without) < len(tensors) else frozenset()
    return stripped
