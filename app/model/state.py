"""What the service is doing, as its owner sees it. No HTTP in here."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["converting", "loading", "ready", "failed", "stopping"]


@dataclass(frozen=True)
class State:
    """What the service is doing.

    Attributes:
        message: a sentence for people.
        stage, fraction: of a conversion; the fraction of this stage, 0 to 1.
        code: of a failure, dotted and stable.
        advice: what to do about a failure.
        lasting: a failure that stays until somebody changes the command, or what it names.
    """

    status: Status
    message: str
    stage: str | None = None
    fraction: float | None = None
    code: str | None = None
    advice: str | None = None
    lasting: bool = False


class ModelUnavailableError(Exception):
    """There is no model to answer with.

    Attributes:
        state: what there is instead of a model that is ready.
        retry_after: seconds until another attempt may start, after a failure.
    """

    def __init__(self, state: State, retry_after: float) -> None:
        super().__init__(state.message)
        self.state = state
        self.retry_after = retry_after
