"""What a bundle says about itself: its model, how it is written, and by what it is known.

No torch in here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from converter.checkpoint.files import CheckpointFiles
from converter.digests import sha256_file, sha256_json
from converter.network.config import EncoderConfig
from converter.options import BuildOptions

FORMAT = 1
PACKAGE = "model.mlpackage"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.npz"
EMBEDDINGS = "embeddings.npy"
MANIFEST = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """Size in bytes and hex SHA-256 of one file."""

    sha256: str
    size: int


class Manifest(_Frozen):
    """Where a bundle comes from, what it holds and how faithful it is.

    Attributes:
        fingerprint: 16 hex digits that stand for weights, tokenizer, configuration, options and
            package. Equal inputs give equal fingerprints, whenever and wherever they are built:
            `golden.npz` is left out, since the reference's last bits depend on the machine.
        checkpoint_sha256: hex digests of the source files "config", "weights" and "tokenizer".
        config: the fields of `EncoderConfig`.
        lengths: tokens that a prediction can take, ascending.
        functions: length -> name of the package's function for it.
        precision: "chosen" ("fp16", "mixed" or "fp32"), "fp32_operations" and "reason".
        fidelity: measured figures, and "flag" ("expected" or "flagged").
        files: every other file of the bundle by its relative POSIX path.
        digest: hex SHA-256 over all other fields.
    """

    format: int = FORMAT
    model: str
    commit: str | None
    fingerprint: str
    checkpoint_sha256: dict[str, str]
    config: dict[str, Any]
    hidden_size: int
    pad_token_id: int
    lengths: list[int]
    functions: dict[str, str]
    options: BuildOptions
    precision: dict[str, Any]
    fidelity: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileRecord]
    digest: str

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"{name!r} leads out of the bundle")
        return files

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if not self.lengths or self.lengths != sorted(set(self.lengths)):
            raise ValueError("lengths are not ascending")
        if set(self.functions) != {str(length) for length in self.lengths}:
            raise ValueError("functions and lengths differ")
        required = [TOKENIZER, GOLDEN]
        if self.options.embedding == "host":
            required.append(EMBEDDINGS)
        missing = [name for name in required if name not in self.files]
        if not any(name.startswith(f"{PACKAGE}/") for name in self.files):
            missing.append(PACKAGE)
        if missing:
            raise ValueError(f"files does not list {', '.join(missing)}")
        return self

    def matches(self, files: CheckpointFiles) -> bool:
        """Whether the bundle was built from these very files."""
        return self.checkpoint_sha256 == files.sha256

    def is_unaltered(self) -> bool:
        """Whether `fingerprint` and `digest` are those of the other fields."""
        return self.digest == _digest(self) and self.fingerprint == _fingerprint(self)


def write_manifest(
    folder: Path,
    *,
    model: str,
    commit: str | None,
    checkpoint_sha256: Mapping[str, str],
    config: EncoderConfig,
    functions: Mapping[int, str],
    options: BuildOptions,
    precision: Mapping[str, Any],
    fidelity: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Manifest:
    """Hash every file in a folder and write its manifest: the last step before `publish`.

    Args:
        functions: length in tokens -> name of the package's function for it.

    Raises:
        ValidationError (pydantic): a file that a bundle needs is not there.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {
        name: FileRecord(sha256=sha256_file(folder / name), size=(folder / name).stat().st_size)
        for name in names
        if name != MANIFEST
    }
    draft = Manifest(
        model=model,
        commit=commit,
        fingerprint="",
        checkpoint_sha256=dict(checkpoint_sha256),
        config=asdict(config),
        hidden_size=config.hidden_size,
        pad_token_id=config.pad_token_id,
        lengths=sorted(functions),
        functions={str(length): functions[length] for length in sorted(functions)},
        options=options,
        precision=dict(precision),
        fidelity=dict(fidelity),
        versions=dict(versions),
        files=files,
        digest="",
    )
    stamped = draft.model_copy(update={"fingerprint": _fingerprint(draft)})
    manifest = stamped.model_copy(update={"digest": _digest(stamped)})
    # NaN would be no JSON; a figure that is none has no place in a manifest.
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _fingerprint(manifest: Manifest) -> str:
    fields = manifest.model_dump(
        mode="json", include={"format", "checkpoint_sha256", "config", "options", "files"}
    )
    del fields["files"][GOLDEN]
    return sha256_json(fields)[:16]


def _digest(manifest: Manifest) -> str:
    return sha256_json(manifest.model_dump(mode="json", exclude={"digest"}))
