"""How many models a Ray cluster holds, by what its nodes have."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.embed.errors import TryAgainError
from app.settings import Settings


@dataclass(frozen=True)
class Node:
    """What Ray gives away of a machine."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Pool:
    """Actors with a model each.

    Attributes:
        size: how many fit.
        cpus, gpus: that each of them takes.
        threads: of each model; None: as many as its process finds good.
    """

    size: int
    cpus: int
    gpus: int
    threads: int | None

    def __str__(self) -> str:
        return f"a GPU and CPUs: {self.cpus}" if self.gpus else f"CPUs: {self.cpus}"


def pool_for(nodes: Sequence[Node], settings: Settings) -> Pool:
    """A model a GPU where the device is CUDA; else one for `threads` CPUs.

    Where `threads` is not set, a model on CPUs takes as many as the smallest node has.

    Raises:
        TryAgainError: nothing fits.
    """
    if _on_gpus(nodes, settings):
        cpus = settings.threads or 1
        size = sum(min(node.gpus, node.cpus // cpus) for node in nodes)
        pool = Pool(size, cpus, 1, settings.threads)
    else:
        computing = [node.cpus for node in nodes if node.cpus]
        cpus = settings.threads or min(computing, default=1)
        pool = Pool(sum(each // cpus for each in computing), cpus, 0, cpus)
    if not pool.size:
        raise TryAgainError(f"No node of the Ray cluster has what a model takes ({pool}).")
    return pool


def _on_gpus(nodes: Sequence[Node], settings: Settings) -> bool:
    if settings.device == "cuda":
        return True
    by_torch = settings.runtime in ("auto", "torch")
    return by_torch and settings.device == "auto" and any(node.gpus for node in nodes)
