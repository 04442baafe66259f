"""Shuffle a sequence uniformly among all that have the same dinucleotide counts."""

from collections import defaultdict
from itertools import pairwise

import numpy as np


def dinucleotide_shuffle(sequence: str, generator: np.random.Generator) -> str:
    """A random sequence with every dinucleotide as often as in `sequence`.

    First and last letter stay. Method: Altschul and Erickson, Mol. Biol. Evol. 2:526 (1985).
    Letters are vertices and dinucleotides edges of a graph; a sequence is an Eulerian path. Each
    vertex but the last draws the edge by which it is left for the last time, until these edges
    lead from everywhere to the last vertex; its other edges follow in random order.
    """
    successors: dict[str, list[str]] = defaultdict(list)
    for letter, next_letter in pairwise(sequence):
        successors[letter].append(next_letter)
    if not successors:
        return sequence
    last = sequence[-1]
    exits = _draw_exits(successors, last, generator)
    for letter, following in successors.items():
        if letter != last:
            following.remove(exits[letter])
        order = generator.permutation(len(following))
        following[:] = [following[i] for i in order]
        if letter != last:
            following.append(exits[letter])
    path = [sequence[0]]
    unused = {letter: iter(following) for letter, following in successors.items()}
    for _ in range(len(sequence) - 1):
        path.append(next(unused[path[-1]]))
    return "".join(path)


def _draw_exits(
    successors: dict[str, list[str]], last: str, generator: np.random.Generator
) -> dict[str, str]:
    """Each vertex's last exit, drawn until following the exits ends in `last` from everywhere."""
    while True:
        exits = {
            letter: following[generator.integers(len(following))]
            for letter, following in successors.items()
            if letter != last
        }
        if all(_leads_to(last, letter, exits) for letter in exits):
            return exits


def _leads_to(last: str, letter: str, exits: dict[str, str]) -> bool:
    for _ in range(len(exits)):
        letter = exits[letter]
        if letter == last:
            return True
    return False
