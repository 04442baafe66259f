"""What a bundle says about itself: its model, how it is written, and by what it is known.

No torch in here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from converter.checkpoint.files import CheckpointFiles
from converter.digests import sha256_file, sha256_json
from converter.errors import brief
from converter.json_files import UnreadableJsonError, parse_json_object
from converter.network.config import WINDOWS, AnyEncoderConfig
from converter.network.heads import LeftOutHead, served_part
from converter.network.structure import EncoderConfig
from converter.options import BuildOptions, function_names
from converter.package.engine import EngineShare

FORMAT = 4
PACKAGE = "model.mlpackage"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.npz"
EMBEDDINGS = "embeddings.npy"
MANIFEST = "manifest.json"

# Far more than any manifest has; nobody reads a file of gigabytes to find that it is none.
MAX_BYTES = 4 * 2**20
_LONGEST_NAME = 255
_BRIEF = 60


class ManifestError(ValueError):
    """What is wrong with a manifest, as a clause."""


class FormatError(ManifestError):
    """The manifest is of another format than this version reads."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileRecord(_Frozen):
    """Size in bytes and hex SHA-256 of one file."""

    sha256: str
    size: int


class _Limit(BaseModel):
    model_config = ConfigDict(strict=True)

    module: str
    psnr_db: float | None  # None where it overflows


class _Precision(BaseModel):
    model_config = ConfigDict(strict=True)

    chosen: Literal["fp16", "prefix", "mixed", "fp32"]
    reason: str
    cures: list[str]
    fp32_modules: list[str]
    limited_by: list[_Limit]


class _Gate(BaseModel):
    model_config = ConfigDict(strict=True)

    gate: str
    verdict: Literal["expected", "flagged"]
    psnr_db: float | None  # None where all was equal


class _Fidelity(BaseModel):
    """What is read of the figures; activations, head, layers and graph are for people."""

    model_config = ConfigDict(strict=True)

    flag: Literal["expected", "flagged"]
    gates: list[_Gate]
    engine: dict[str, int]

    @field_validator("engine")
    @classmethod
    def _has_its_figures(cls, engine: dict[str, int]) -> dict[str, int]:
        if engine.keys() != {field.name for field in fields(EngineShare)}:
            raise ValueError("these are not the figures of an engine's share")
        return engine


class Manifest(_Frozen):
    """Where a bundle comes from, what it holds and how faithful it is.

    Attributes:
        fingerprint: 16 hex digits that stand for weights, tokenizer, configuration, options and
            package. Equal inputs give equal fingerprints, whatever they are called, whenever and
            wherever they are built: `golden.npz` is left out, since the reference's last bits
            depend on the machine.
        checkpoint_sha256: hex digests of the source files "config", "weights" and "tokenizer".
        left_out: heads of the checkpoint that the package does not have.
        lengths: tokens that a prediction can take, ascending.
        functions: length -> name of the package's function for it.
        precision: "chosen" ("fp16", "prefix", "mixed" or "fp32") and its "reason", "cures" of the
            weights, "fp32_modules", and what fp16 is "limited_by" where that was measured.
        fidelity: measured figures: "flag" ("expected" or "flagged"), "gates", what stays off the
            "engine", and more.
        files: every other file of the bundle by its relative POSIX path.
        digest: hex SHA-256 over all other fields.
    """

    format: int = FORMAT
    model: str
    commit: str | None
    fingerprint: str
    checkpoint_sha256: dict[str, str]
    config: AnyEncoderConfig
    left_out: tuple[LeftOutHead, ...]
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
                raise ValueError(f"{brief(name, _BRIEF)} leads out of the bundle")
            if not name.isprintable() or len(name) > _LONGEST_NAME:
                raise ValueError(f"{brief(name, _BRIEF)} is no name of a file")
        return files

    @field_validator("precision", "fidelity")
    @classmethod
    def _has_what_is_read(cls, found: dict[str, Any], field: ValidationInfo) -> dict[str, Any]:
        try:
            (_Precision if field.field_name == "precision" else _Fidelity).model_validate(found)
        except ValidationError as error:
            raise ValueError(_first(error)) from error
        return found

    @field_validator("config")
    @classmethod
    def _has_sizes(cls, config: EncoderConfig) -> EncoderConfig:
        c = config
        sizes = (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size)
        if min(sizes) < 1 or not 0 <= config.pad_token_id < config.vocab_size:
            raise ValueError("these are no sizes of a network")
        return config

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if not self.lengths or self.lengths != sorted(set(self.lengths)):
            raise ValueError("lengths are not ascending")
        if self.lengths[0] < 2 or self.window not in WINDOWS:
            windows = " or ".join(map(str, WINDOWS))
            raise ValueError(f"lengths do not end with {windows}, or one holds no token")
        if self.functions != {str(n): name for n, name in function_names(self.lengths).items()}:
            raise ValueError("functions and lengths differ")
        if (self.hidden_size, self.pad_token_id) != (
            self.config.hidden_size,
            self.config.pad_token_id,
        ):
            raise ValueError("hidden_size or pad_token_id differs from config")
        required = [TOKENIZER, GOLDEN]
        if self.options.embedding == "host":
            required.append(EMBEDDINGS)
        missing = [name for name in required if name not in self.files]
        if not any(name.startswith(f"{PACKAGE}/") for name in self.files):
            missing.append(PACKAGE)
        if missing:
            raise ValueError(f"files does not list {', '.join(missing)}")
        return self

    @property
    def window(self) -> int:
        """Tokens that the model reads at a time, [CLS] and [SEP] included."""
        return self.lengths[-1]

    @property
    def serves(self) -> str:
        """Which part of the checkpoint is served, and which is not, for people."""
        return served_part(self.left_out)

    def matches(self, files: CheckpointFiles) -> bool:
        """Whether the bundle was built from these very files."""
        return self.checkpoint_sha256 == files.sha256

    def is_unaltered(self) -> bool:
        """Whether `fingerprint` and `digest` are those of the other fields."""
        return self.digest == _digest(self) and self.fingerprint == _fingerprint(self)


def parse_manifest(content: bytes) -> Manifest:
    """A manifest from its bytes, whatever they are.

    Raises:
        FormatError: it is of another format.
        ManifestError: it is damaged, or was altered.
    """
    try:
        raw = parse_json_object(content, MAX_BYTES)
    except UnreadableJsonError as error:
        raise ManifestError(f"it {error}") from error
    if "format" not in raw:
        raise ManifestError("it names no format")
    if isinstance(raw["format"], bool):  # which is 0 or 1 in Python
        raise ManifestError("its format is no number")
    if raw["format"] != FORMAT:
        raise FormatError(brief(str(raw["format"]), _BRIEF))
    try:
        # From the bytes: in strict mode pydantic takes objects of JSON, and no dict, for a model.
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ManifestError(_first(error)) from error
    if not manifest.is_unaltered():
        raise ManifestError("it was altered")
    return manifest


def write_manifest(
    folder: Path,
    *,
    model: str,
    commit: str | None,
    checkpoint_sha256: Mapping[str, str],
    config: AnyEncoderConfig,
    left_out: Sequence[LeftOutHead],
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
    draft = Manifest(
        model=model,
        commit=commit,
        fingerprint="",
        checkpoint_sha256=dict(checkpoint_sha256),
        config=config,
        left_out=tuple(left_out),
        hidden_size=config.hidden_size,
        pad_token_id=config.pad_token_id,
        lengths=sorted(functions),
        functions={str(length): functions[length] for length in sorted(functions)},
        options=options,
        precision=dict(precision),
        fidelity=dict(fidelity),
        versions=dict(versions),
        files=_records(folder),
        digest="",
    )
    stamped = draft.model_copy(update={"fingerprint": _fingerprint(draft)})
    manifest = stamped.model_copy(update={"digest": _digest(stamped)})
    # NaN would be no JSON; a figure that is none has no place in a manifest.
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def is_of_macos(name: str) -> bool:
    """Whether a file is none of ours: macOS leaves them, the second kind on disks of other systems.

    Those are companions of files and folders, for what such a disk cannot keep with them.
    """
    return name == ".DS_Store" or name.startswith("._")


def _records(folder: Path) -> dict[str, FileRecord]:
    found = (p for p in folder.rglob("*") if p.is_file() and not is_of_macos(p.name))
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return {
        name: FileRecord(sha256=sha256_file(folder / name), size=(folder / name).stat().st_size)
        for name in names
        if name != MANIFEST
    }


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    # Of a value that is none of several, the library's words repeat it.
    message = brief(first["msg"])
    return f"{brief(where, _BRIEF)}: {message}" if where else message


def _fingerprint(manifest: Manifest) -> str:
    fields = manifest.model_dump(
        mode="json", include={"format", "checkpoint_sha256", "config", "options", "files"}
    )
    del fields["files"][GOLDEN]
    return sha256_json(fields)[:16]


def _digest(manifest: Manifest) -> str:
    return sha256_json(manifest.model_dump(mode="json", exclude={"digest"}))
