"""The seam before the families: all that the converter asks of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from converter.network.heads import HeadNames
from converter.network.neural_engine import NeuralEngineEncoder, Scales
from converter.network.reference import ReferenceEncoder
from converter.options import BuildOptions


@dataclass(frozen=True)
class PublishedNames:
    """How a family's files name their tensors.

    Attributes:
        prefix: what the encoder's names begin with in a file with heads; some files lack it.
        layers: what the names of layers begin with behind that, before their number.
        words: name of the word table.
        head: what the names of the masked-language-model head begin with.
        heads: what may stand beside the encoder.
    """

    prefix: str
    layers: str
    words: str
    head: str
    heads: HeadNames


@dataclass(frozen=True)
class Cure:
    """Other weights of the same network, equal in real arithmetic.

    Attributes:
        name: of what is done, for people.
        apply: makes the cured network of one, and of a few windows (1, n) int64 without padding.
    """

    name: str
    apply: Callable[[Any, Sequence[Tensor]], ReferenceEncoder]


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        title: what it is, for people who open the package.
        names: of tensors in published files.
        encoder: the network as published, of a configuration.
        head: its masked-language-model head; called with hidden states (N, H) and the word
            table (V, H) it gives logits (N, V).
        re_author: the same network for the Neural Engine, for windows of one length.
        tables: constants of that network with a row a token, for windows of up to so many.
        sizes: sizes of tensors in its graph that come of the number of tokens, which is the first.
        multiple: numbers of tokens that it can be made for are multiples of this.
        published_tables: those of the published network.
        cure: what may help fp16 where it is not enough.
    """

    title: str
    names: PublishedNames
    encoder: Callable[[Any], ReferenceEncoder]
    head: Callable[[Any], nn.Module]
    re_author: Callable[[Any, int, BuildOptions, Scales], NeuralEngineEncoder]
    tables: Callable[[Any, int, BuildOptions, Scales], Sequence[NDArray[np.float32]]]
    published_tables: Callable[[Any], Sequence[NDArray[np.float32]]]
    sizes: Callable[[Any, int], tuple[int, ...]]
    multiple: Callable[[Any], int]
    cure: Cure | None = None
