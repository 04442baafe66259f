"""Files of a checkpoint -> validated configuration, weights and networks. Strict.

A checkpoint is used only when every encoder weight is present with its exact shape and is
finite, and when no tensor is left whose purpose is unknown. Code from the hub is never run.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from converter.checkpoint.files import CheckpointFiles
from converter.checkpoint.tensors import read_tensors
from converter.errors import CheckpointError
from converter.network.config import EncoderConfig
from converter.network.reference import GenaEncoder, Head, MaskedLanguageModelHead

_WORDS = "embeddings.word_embeddings.weight"
_HEAD_PREFIX = "cls.predictions."
# Present in published files and not part of the encoder (names without the prefix "bert.").
_NOT_ENCODER = re.compile(
    r"cls\..+|pooler\..+|classifier\..+|embeddings\.(position_ids|token_type_ids)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint.

    Attributes:
        files: what it was read from.
        weights: encoder tensors by their published names less "bert.", in the file's dtype.
        head: tensors of the masked-language-model head, by names of `MaskedLanguageModelHead`;
            None where the file has no complete, finite one.
    """

    files: CheckpointFiles
    config: EncoderConfig
    weights: dict[str, Tensor]
    head: dict[str, Tensor] | None

    def encoder(self) -> GenaEncoder:
        """The reference network with these weights in fp32, each equal to the file's tensor."""
        with torch.device("meta"):
            network = GenaEncoder(self.config)
        network.load_state_dict({k: v.float() for k, v in self.weights.items()}, assign=True)
        for name, loaded in network.state_dict().items():
            if not torch.equal(loaded, self.weights[name].float()):
                raise CheckpointError(f"{self.files.source}: {name} changed while it was loaded.")
        return network.eval().requires_grad_(False)

    def masked_language_model_head(self) -> Head | None:
        """The head in fp32 with the matrix it is tied to, or None where there is none."""
        if self.head is None:
            return None
        with torch.device("meta"):
            network = MaskedLanguageModelHead(self.config)
        network.load_state_dict({k: v.float() for k, v in self.head.items()}, assign=True)
        network.eval().requires_grad_(False)
        return partial(network, word_embeddings=self.weights[_WORDS].float())


def load_checkpoint(files: CheckpointFiles) -> Checkpoint:
    """Read and validate a checkpoint that `find_checkpoint` found.

    Raises:
        UnsupportedModelError: the configuration asks for another architecture.
        CheckpointError: a file is damaged or not what the configuration says.
    """
    config = read_config(files.config)
    tensors = read_tensors(files.weights)
    return Checkpoint(
        files=files,
        config=config,
        weights=_encoder_weights(tensors, config, files.weights),
        head=_head_weights(tensors, config),
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
