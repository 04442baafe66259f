"""Where a checkpoint's files lie: a folder, a shipped model, or the hub. No torch in here."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from converter.checkpoint.hub import fetch_files, fetch_first
from converter.digests import sha256_file
from converter.errors import CheckpointError, CheckpointUnavailableError, brief_repr
from converter.paths import existing_folder
from converter.tokenizer_file import MOST_BYTES as MOST_TOKENIZER_BYTES

DEFAULT_MODEL = "AIRI-Institute/gena-lm-bert-base"


def _shipped(name: str) -> Path:
    """In a clone in `models/`; a wheel carries it beside the converter (see setup.py)."""
    converter = Path(__file__).resolve().parents[1]
    installed = converter / "shipped" / name
    return installed if installed.is_dir() else converter.parent / "models" / name


SHIPPED_MODELS = {"gena-mini": _shipped("gena-mini")}

_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
# In order of preference.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Said before anything is read, or hashed. A published config has a kilobyte, and a list of many
# labels may be in it; bert-large has 1.4 GB of weights.
MOST_CONFIG_BYTES = 4 * 2**20
_MOST_WEIGHTS_BYTES = 4 * 2**30
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_LOOKED_AT = 256
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class SmallFiles:
    """Where a checkpoint's files beside the weights lie on this machine.

    Attributes:
        source: the hub id, or the name of the folder, as a person would say it.
        commit: the hub's commit, None for a folder.
    """

    source: str
    commit: str | None
    config: Path
    tokenizer: Path


@dataclass(frozen=True)
class CheckpointFiles(SmallFiles):
    """Where all files of a checkpoint lie on this machine."""

    weights: Path

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Hex digests of the files, by "config", "weights" and "tokenizer"; read once.

        Raises:
            CheckpointError: a file cannot be read.
        """
        files = {"config": self.config, "weights": self.weights, "tokenizer": self.tokenizer}
        try:
            return {name: sha256_file(path) for name, path in files.items()}
        except OSError as error:
            raise _unreadable(self.config.parent, error) from error


def find_checkpoint(model: str, revision: str | None = None) -> CheckpointFiles:
    """Locate a checkpoint's files, fetching them from the hub where needed.

    Args:
        model: a hub id, the name of a shipped model, or a folder with `config.json`,
            `tokenizer.json` and `model.safetensors` or `pytorch_model.bin`.
        revision: branch, tag or commit of a hub id.

    Raises:
        As `find_small_files` and `find_weights`.
    """
    return find_weights(find_small_files(model, revision))


def find_small_files(model: str, revision: str | None = None) -> SmallFiles:
    """Locate what a checkpoint holds beside its weights: seconds, where those take minutes.

    Args:
        model, revision: as `find_checkpoint` takes them.

    Raises:
        CheckpointUnavailableError: it is not here and cannot be fetched.
        CheckpointError: a file is missing, or not what the hub announced.
        UnusablePathError: it is a path that this system cannot have.
    """
    shipped = SHIPPED_MODELS.get(model)
    folder = existing_folder(model if shipped is None else str(shipped))
    if folder is not None:
        if revision is not None:
            raise CheckpointError(f"{model} is a folder; a revision goes with a hub id only.")
        source = model if shipped else folder.resolve().name
        return _small_files(folder, source, commit=None)
    if shipped is not None:
        raise CheckpointUnavailableError(
            f"{model} ships with the project's source, and {shipped} is not here. "
            "Run from a clone, or name a folder or a hub id."
        )
    if not _HUB_ID.fullmatch(model):
        raise CheckpointUnavailableError(
            f"{brief_repr(model)} is neither a folder here, nor a hub id (owner/name), nor a "
            f"shipped model ({', '.join(SHIPPED_MODELS)})."
        )
    if revision is not None and not (revision.isprintable() and len(revision) < 256):
        raise CheckpointUnavailableError(f"{brief_repr(revision)} is no revision of a model.")
    snapshot = fetch_files(model, revision, (_CONFIG, _TOKENIZER))
    return _small_files(snapshot, source=model, commit=snapshot.name)


def find_weights(small: SmallFiles) -> CheckpointFiles:
    """Locate the weights that belong to files of a checkpoint, fetching them where needed.

    Raises:
        CheckpointUnavailableError: they are not here and cannot be fetched.
        CheckpointError: there are none, or they are not what the hub announced.
    """
    folder = small.config.parent
    if small.commit is not None:
        fetch_first(small.source, small.commit, _WEIGHTS)
    try:
        weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise CheckpointError(
                f"{small.source}: neither {' nor '.join(_WEIGHTS)} is in {folder}."
            )
        _require_plausible(weights, _MOST_WEIGHTS_BYTES)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return CheckpointFiles(small.source, small.commit, small.config, small.tokenizer, weights)


def _small_files(folder: Path, source: str, commit: str | None) -> SmallFiles:
    most = {_CONFIG: MOST_CONFIG_BYTES, _TOKENIZER: MOST_TOKENIZER_BYTES}
    try:
        for name in most:
            if not (folder / name).is_file():
                raise CheckpointError(f"{source}: {name} is missing in {folder}.")
        for name, size in most.items():
            _require_plausible(folder / name, size)
    except OSError as error:  # the folder is there, and may not be looked into
        raise _unreadable(folder, error) from error
    return SmallFiles(source, commit, folder / _CONFIG, folder / _TOKENIZER)


def _require_plausible(path: Path, most_bytes: int) -> None:
    """Raise where a file is too large, or holds what was answered or kept in its place."""
    if path.stat().st_size > most_bytes:
        raise CheckpointError(f"{path} is larger than the {most_bytes} bytes that it may have.")
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT).lstrip()
    if start.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is not the file but Git LFS's pointer to it: run `git lfs pull` in "
            f"{path.parent}."
        )
    if start.lower().startswith(_WEB_PAGES):
        raise CheckpointError(
            f"{path} is a web page: where it was fetched from was reached, but it answered with a "
            "page, to log in perhaps. Fetch it again, from a network that lets it through."
        )


def _unreadable(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror}.")
