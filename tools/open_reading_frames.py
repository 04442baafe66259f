"""What a bacterial sequence says about its genes by itself: open reading frames, six frames.

A long open frame is not chance: with stops at 3 of 64 codons, 300 codons in a row have none with
a probability of 6e-7. That is the only evidence used here; there is no annotation.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.mini.data import reverse_complement

START = "ATG"
_STOP = re.compile("(?=TAA|TAG|TGA)")


@dataclass(frozen=True)
class OpenFrame:
    """Forward-strand interval [start, end) without a stop in one frame of `strand`."""

    start: int
    end: int
    strand: int  # +1 or -1

    def __len__(self) -> int:
        return self.end - self.start


def open_frames(sequence: str, minimum: int) -> Iterator[OpenFrame]:
    """Maximal stretches of at least `minimum` bases between stops (excluded), in six frames."""
    length = len(sequence)
    for strand, text in ((1, sequence), (-1, reverse_complement(sequence))):
        stops = [match.start() for match in _STOP.finditer(text)]
        for frame in range(3):
            begin = frame
            end_of_frame = length - (length - frame) % 3
            for stop in [*(s for s in stops if s % 3 == frame), end_of_frame]:
                if stop - begin >= minimum:
                    if strand == 1:
                        yield OpenFrame(begin, stop, 1)
                    else:
                        yield OpenFrame(length - stop, length - begin, -1)
                begin = stop + 3


def likely_genes(sequence: str, minimum: int) -> list[OpenFrame]:
    """Stretches from the first ATG to the stop of at least `minimum` bases.

    Where two overlap only the longer is kept (the other is most often its shadow).
    """
    genes: list[OpenFrame] = []
    for frame in open_frames(sequence, minimum):
        coding = sequence[frame.start : frame.end]
        if frame.strand == -1:
            coding = reverse_complement(coding)
        starts = (i for i in range(0, len(coding) - 2, 3) if coding[i : i + 3] == START)
        first = next(starts, None)
        if first is None or len(coding) - first < minimum:
            continue
        if frame.strand == 1:
            genes.append(OpenFrame(frame.start + first, frame.end, 1))
        else:
            genes.append(OpenFrame(frame.start, frame.end - first, -1))
    kept: list[OpenFrame] = []
    for gene in sorted(genes, key=lambda g: (-len(g), g.start)):
        if all(gene.end <= other.start or gene.start >= other.end for other in kept):
            kept.append(gene)
    return sorted(kept, key=lambda g: g.start)


def without_open_frames(sequence: str, longest: int) -> list[tuple[int, int]]:
    """Intervals [start, end) that no open frame longer than `longest` bases touches."""
    covered = sorted((frame.start, frame.end) for frame in open_frames(sequence, longest + 1))
    free: list[tuple[int, int]] = []
    position = 0
    for start, end in [*covered, (len(sequence), len(sequence))]:
        if start > position:
            free.append((position, start))
        position = max(position, end)
    return free
