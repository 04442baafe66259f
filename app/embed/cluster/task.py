"""What the processes of a run on a Ray cluster tell each other."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from app.embed.errors import FAILED, INPUT, TRY_AGAIN, EmbedError, InputError, TryAgainError
from app.embed.options import EmbedOptions
from app.embed.shards import ShardStamp
from app.settings import Settings


@dataclass(frozen=True)
class Task:
    """Shards to make.

    Attributes:
        address: of the cluster, as Ray takes it.
        options: paths in it are absolute.
        settings: of the model; without the API key.
        stamp: what each shard has to be made with.
        version: of this project, which every node has to have.
    """

    address: str
    options: EmbedOptions
    settings: Settings
    stamp: ShardStamp
    shards: tuple[int, ...]
    version: str


@dataclass(frozen=True)
class Begun:
    """The cluster was found; models are started."""

    models: int
    nodes: int
    resources: str
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True)
class Made:
    """A shard is there, with so many windows that have no vector."""

    shard: int
    n_problems: int
    kind: Literal["made"] = "made"


@dataclass(frozen=True)
class Failed:
    """The run cannot go on: an exit status, and a sentence."""

    status: int
    message: str
    kind: Literal["failed"] = "failed"

    def error(self) -> EmbedError:
        """As the error of a run on one machine."""
        kinds = {INPUT: InputError, TRY_AGAIN: TryAgainError, FAILED: EmbedError}
        return kinds[self.status](self.message)


Message: TypeAlias = Annotated[Begun | Made | Failed, Field(discriminator="kind")]

TASK: TypeAdapter[Task] = TypeAdapter(Task)
MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
