"""Files of a checkpoint -> validated configuration and weights. Strict.

A checkpoint is used only when every encoder weight is present with its exact shape and is
finite, and when no tensor is left whose purpose is unknown. Code from the hub is never run;
`.bin` files are opened with `weights_only=True`.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from converter.checkpoint.files import find_checkpoint, sha256_file
from converter.errors import CheckpointError
from converter.network.config import EncoderConfig
from converter.network.reference import GenaEncoder, MaskedLanguageModelHead

_PREFIX = "bert."
_HEAD_PREFIX = "cls.predictions."
# Present in published files and not part of the encoder (names without the prefix "bert.").
_NOT_ENCODER = re.compile(
    r"cls\..+|pooler\..+|classifier\..+|embeddings\.(position_ids|token_type_ids)"
)
# What the libraries raise for a damaged file; torch gives OSError where a zip is cut short.
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
)


@dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint.

    Attributes:
        source: the hub id, or the name of the folder, as a person would say it.
        commit: the hub's commit, None for a folder.
        weights: encoder tensors by their published names less "bert.", in the file's dtype.
        head: tensors of the masked-language-model head, by names of `MaskedLanguageModelHead`;
            None where the file has no complete, finite one.
        sha256: hex digests of the files, by "config", "weights" and "tokenizer".
    """

    source: str
    commit: str | None
    config: EncoderConfig
    weights: dict[str, Tensor]
    head: dict[str, Tensor] | None
    tokenizer_file: Path
    sha256: dict[str, str]

    def encoder(self) -> GenaEncoder:
        """The reference network with these weights in fp32, each equal to the file's tensor."""
        with torch.device("meta"):
            network = GenaEncoder(self.config)
        network.load_state_dict({k: v.float() for k, v in self.weights.items()}, assign=True)
        for name, loaded in network.state_dict().items():
            if not torch.equal(loaded, self.weights[name].float()):
                raise CheckpointError(f"{self.source}: {name} changed while it was loaded.")
        return network.eval().requires_grad_(False)

    def masked_language_model_head(self) -> MaskedLanguageModelHead | None:
        """The head in fp32, or None where the checkpoint has none."""
        if self.head is None:
            return None
        with torch.device("meta"):
            network = MaskedLanguageModelHead(self.config)
        network.load_state_dict({k: v.float() for k, v in self.head.items()}, assign=True)
        return network.eval().requires_grad_(False)


def load_checkpoint(model: str, revision: str | None = None) -> Checkpoint:
    """Read and validate a checkpoint.

    Args:
        model: a hub id, the name of a shipped model, or a folder with `config.json`,
            `tokenizer.json` and `model.safetensors` or `pytorch_model.bin`.
        revision: branch, tag or commit of a hub id.

    Raises:
        CheckpointUnavailableError: it is not here and cannot be fetched.
        UnsupportedModelError: the configuration asks for another architecture.
        CheckpointError: a file is missing, damaged or not what the configuration says.
    """
    files = find_checkpoint(model, revision)
    config = read_config(files.config)
    tensors = _strip_prefix(_read_tensors(files.weights), files.weights)
    return Checkpoint(
        source=files.source,
        commit=files.commit,
        config=config,
        weights=_encoder_weights(tensors, config, files.weights),
        head=_head_weights(tensors, config),
        tokenizer_file=files.tokenizer,
        sha256={
            "config": sha256_file(files.config),
            "weights": sha256_file(files.weights),
            "tokenizer": sha256_file(files.tokenizer),
        },
    )


def read_config(path: Path) -> EncoderConfig:
    """Parse and validate a `config.json`.

    Raises:
        UnsupportedModelError, CheckpointError: as `EncoderConfig.from_dict`.
    """
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return EncoderConfig.from_dict(raw)


def _read_tensors(path: Path) -> dict[str, Tensor]:
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


def _encoder_weights(
    tensors: Mapping[str, Tensor], config: EncoderConfig, path: Path
) -> dict[str, Tensor]:
    with torch.device("meta"):
        expected = {name: t.shape for name, t in GenaEncoder(config).state_dict().items()}
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} encoder weights are missing: {_some(missing)}."
        )
    unexpected = [n for n in tensors if n not in expected and not _NOT_ENCODER.fullmatch(n)]
    if unexpected:
        raise CheckpointError(
            f"{path}: {len(unexpected)} tensors have no place in this network: "
            f"{_some(unexpected)}. Does config.json belong to these weights?"
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}; "
                f"config.json asks for {tuple(shape)}."
            )
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite numbers.")
    return {name: tensors[name] for name in expected}


def _head_weights(tensors: Mapping[str, Tensor], config: EncoderConfig) -> dict[str, Tensor] | None:
    with torch.device("meta"):
        expected = {n: t.shape for n, t in MaskedLanguageModelHead(config).state_dict().items()}
    found = {name: tensors.get(_HEAD_PREFIX + name) for name in expected}
    head = {
        name: tensor
        for name, tensor in found.items()
        if tensor is not None and tensor.shape == expected[name] and torch.isfinite(tensor).all()
    }
    return head if len(head) == len(expected) else None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
