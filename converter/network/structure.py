"""What is asked of a configuration of any family: sizes, and how its layers are made. No torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class LayerStructure:
    """One layer of an encoder.

    Attributes:
        norms: they stand before what they belong to (pre-LN), or behind (post-LN).
        attention_norm: attention has one; in modernGENA's first layer it has not.
        rotary: queries and keys are rotated by the place of their token.
        reach: attention goes so many tokens to either side; None to all of them.
        gated: the feed-forward's activation is multiplied by a second projection.
    """

    norms: Literal["before", "behind"]
    attention_norm: bool = True
    rotary: bool = False
    reach: int | None = None
    gated: bool = False


class EncoderConfig(ABC):
    """Geometry of an encoder; each family's configuration is a dataclass with these fields.

    Attributes:
        model_type: the family, as `config.json` says it.
        window: tokens of the family's longest window, both specials included.
    """

    window: ClassVar[int]
    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    pad_token_id: int

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @abstractmethod
    def layer(self, index: int) -> LayerStructure:
        """How a layer is made; `index` from 0."""

    @property
    @abstractmethod
    def has_position_table(self) -> bool:
        """A row a position is added to the token's."""

    @property
    @abstractmethod
    def has_last_norm(self) -> bool:
        """The last layer's output is normalised."""

    @property
    def norms_before_layers(self) -> int:
        """Norms that are computed until the first layer's attention begins."""
        first = self.layer(0)
        return 2 if first.norms == "before" and first.attention_norm else 1
