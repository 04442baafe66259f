"""What computes vectors for a run: the model of this machine, or a service that runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.embed.shards import Answer
from app.embed.windows import Row
from app.requests.options import Choices

# Called with a sentence on what goes on before anything is computed.
OnStep = Callable[[str], None]
# Called after windows got their answers: how many, and their bases.
OnAnswers = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """Windows that are computed together."""

    rows: Sequence[Row]

    def by_length(self) -> list[tuple[int, Row]]:
        """Index and row, the longest first: neighbours fit together, and memory is known early."""
        return sorted(enumerate(self.rows), key=lambda each: (-each[1].n_bases, each[0]))


class Model(Protocol):
    """What is known of a model once it is ready.

    Attributes:
        window: tokens that it reads at a time, [CLS] and [SEP] included.
    """

    model: str
    fingerprint: str
    hidden_size: int
    window: int


class Embedder(Model, Protocol):
    """Computes jobs. `prepare` of the next job may run beside `compute` of one."""

    async def prepare(self, job: Job) -> Any:
        """Make a job ready: its letters are read, and tokenized where that is done here."""
        ...

    async def compute(self, prepared: Any, on_answers: OnAnswers) -> list[Answer]:
        """The answers of a prepared job, in the order of its rows.

        Raises:
            TryAgainError: there is no model now. InputError: there will be none.
        """
        ...


def options_of(choices: Choices) -> dict[str, Any]:
    """What a vector depends on beside model and letters, for the stamp of a shard."""
    return {
        "pooling": choices.pooling,
        "strand": choices.strand,
        "normalize": choices.normalize,
        "dtype": choices.dtype,
        "overlap": choices.stride,
        "per_token": not choices.pooled,
    }
