"""Files of a checkpoint -> validated configuration, weights and networks. Strict.

A checkpoint is used only when every encoder weight is present with its exact shape and is
finite, and when no tensor is left that may belong to it. What is beside it is told by name. Code
from the hub is never run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converter.checkpoint.files import CheckpointFiles
from converter.checkpoint.tensors import StoredTensors, read_tensors, why_not_numbers
from converter.errors import CheckpointError, brief
from converter.network.config import AnyEncoderConfig, read_encoder_config, read_raw_config
from converter.network.families import family_of
from converter.network.family import Family
from converter.network.heads import LeftOutHead
from converter.network.reference import Head, ReferenceEncoder

# Published files have four at most.
_MOST_HEADS = 20


@dataclass(frozen=True)
class Checkpoint:
    """A validated checkpoint.

    Attributes:
        files: what it was read from.
        weights: encoder tensors by their published names less the prefix, in the file's dtype.
        head: tensors of the masked-language-model head, by names of the family's module; None where
            the file has no complete, finite one.
        left_out: what the file holds beside the encoder, that one included.
    """

    files: CheckpointFiles
    config: AnyEncoderConfig
    weights: dict[str, Tensor]
    head: dict[str, Tensor] | None
    left_out: tuple[LeftOutHead, ...]

    @property
    def family(self) -> Family:
        """The family that the configuration belongs to."""
        return family_of(self.config)

    def encoder(self) -> ReferenceEncoder:
        """The reference network with these weights in fp32, each equal to the file's tensor."""
        with torch.device("meta"):
            network = self.family.encoder(self.config)
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
            network = self.family.head(self.config)
        network.load_state_dict({k: v.float() for k, v in self.head.items()}, assign=True)
        network.eval().requires_grad_(False)
        words = self.weights[self.family.names.words].float()
        return partial(network, word_embeddings=words)


def load_checkpoint(files: CheckpointFiles) -> Checkpoint:
    """Read and validate a checkpoint that `find_checkpoint` found.

    Raises:
        UnsupportedModelError: the configuration asks for another architecture.
        CheckpointError: a file is damaged or not what the configuration says.
    """
    raw = read_raw_config(files.config)
    config = read_encoder_config(raw)
    family = family_of(config)
    tensors = read_tensors(files.weights, family.names.prefix)
    weights = _encoder_weights(tensors, config, family, files.weights)
    return Checkpoint(
        files=files,
        config=config,
        weights=weights,
        head=_head_weights(tensors, config, family),
        left_out=_heads(tensors, weights, raw, family, files.weights),
    )


def _encoder_weights(
    tensors: StoredTensors, config: AnyEncoderConfig, family: Family, path: Path
) -> dict[str, Tensor]:
    expected = _encoder_shapes(config, family, tensors, path)
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} encoder weights are missing: {_some(missing)}."
        )
    unexpected = [
        name
        for name in tensors
        if name not in expected
        and not family.names.heads.is_beside_the_encoder(name, outside=name in tensors.outside)
    ]
    if unexpected:
        raise CheckpointError(
            f"{path}: {len(unexpected)} tensors have no place in this network: "
            f"{_some(unexpected)}. Does config.json belong to these weights?"
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {tuple(tensors[name].shape)}; "
                f"config.json asks for {tuple(shape)}."
            )
    weights = {name: tensors[name] for name in expected}
    # A view may repeat a few numbers without end.
    if sum(tensor.nbytes for tensor in weights.values()) > path.stat().st_size:
        raise CheckpointError(f"{path}: its encoder weights are larger than the file.")
    for name, tensor in weights.items():
        if (fault := why_not_numbers(tensor)) is not None:
            raise CheckpointError(f"{path}: {name} {fault}.")
    return weights


def _encoder_shapes(
    config: AnyEncoderConfig, family: Family, tensors: Mapping[str, Tensor], path: Path
) -> dict[str, torch.Size]:
    """Shapes of every weight, by name, at a cost that the file bounds: two layers are built.

    The first layer may be unlike the others, which are all as the second.

    Raises:
        CheckpointError: the configuration has more layers than the file.
    """
    built = replace(config, num_hidden_layers=min(2, config.num_hidden_layers))
    with torch.device("meta"):
        found = family.encoder(built).state_dict()
    prefix = family.names.layers
    pattern = f"{prefix}{built.num_hidden_layers - 1}."
    names = [name for name in found if name.startswith(pattern)]
    layer = re.compile(re.escape(prefix) + r"(\d+)\.", re.ASCII)
    numbers = {match[1] for match in map(layer.match, tensors) if match}
    # A number may stand in one name only: so many layers can be whole.
    layers = min(len(numbers), len(tensors) // len(names))
    if config.num_hidden_layers > layers:
        raise CheckpointError(
            f"{path} holds {layers} encoder layers; num_hidden_layers in config.json is "
            f"{config.num_hidden_layers}. Does config.json belong to these weights?"
        )
    shapes = {name: tensor.shape for name, tensor in found.items()}
    for number in range(built.num_hidden_layers, config.num_hidden_layers):
        shapes |= {
            name.replace(pattern, f"{prefix}{number}.", 1): found[name].shape for name in names
        }
    return shapes


def _heads(
    tensors: StoredTensors,
    weights: Mapping[str, Tensor],
    raw: Mapping[str, Any],
    family: Family,
    path: Path,
) -> tuple[LeftOutHead, ...]:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    heads = family.names.heads.find(shapes, weights, raw)
    if len(heads) > _MOST_HEADS:
        raise CheckpointError(
            f"{path} holds {len(heads)} parts beside the encoder: "
            f"{_some([head.name for head in heads])}. That is no checkpoint of one network."
        )
    return heads


def _head_weights(
    tensors: Mapping[str, Tensor], config: AnyEncoderConfig, family: Family
) -> dict[str, Tensor] | None:
    with torch.device("meta"):
        expected = {name: t.shape for name, t in family.head(config).state_dict().items()}
    found = {name: tensors.get(family.names.head + name) for name in expected}
    head = {
        name: tensor
        for name, tensor in found.items()
        if tensor is not None and tensor.shape == expected[name] and not why_not_numbers(tensor)
    }
    return head if len(head) == len(expected) else None


def _some(names: list[str]) -> str:
    return ", ".join(brief(name, 80) for name in names[:3]) + (", ..." if len(names) > 3 else "")
