import re

import numpy as np

from tests.support.synthetic import random_dna
from tools.mini.data import reverse_complement
from tools.open_reading_frames import likely_genes, open_frames, without_open_frames


def test_open_frames_are_maximal_and_have_no_stop() -> None:
    sequence = random_dna(3000, np.random.default_rng(0))
    found = list(open_frames(sequence, 60))
    assert {frame.strand for frame in found} == {1, -1}
    for frame in found:
        coding = sequence[frame.start : frame.end]
        after = sequence[frame.end : frame.end + 3]
        if frame.strand == -1:
            coding = reverse_complement(coding)
            after = reverse_complement(sequence[max(0, frame.start - 3) : frame.start])
        codons = re.findall("...", coding)
        assert len(coding) == 3 * len(codons) >= 60
        assert not {"TAA", "TAG", "TGA"} & set(codons)
        assert after in ("TAA", "TAG", "TGA") or len(after) < 3


def test_a_planted_gene_is_found_on_either_strand_with_its_ends() -> None:
    gene = "ATG" + "GCC" * 350 + "TAA"
    stops = "TTAATTAATTAA" * 5  # stops in all six frames
    for strand in (1, -1):
        planted = gene if strand == 1 else reverse_complement(gene)
        sequence = stops + planted + stops
        [found] = [g for g in likely_genes(sequence, 900) if g.strand == strand]
        begin, end = len(stops), len(stops) + len(gene)
        expected = (begin, end - 3) if strand == 1 else (begin + 3, end)
        assert (found.start, found.end) == expected


def test_stretches_without_open_frames_are_what_long_frames_leave() -> None:
    stops = "TTAATTAATTAA" * 20
    sequence = stops + "GCC" * 200 + stops
    free = without_open_frames(sequence, 300)
    assert len(free) == 2
    (first, end_of_first), (start_of_second, last) = free
    assert (first, last) == (0, len(sequence))
    assert abs(end_of_first - len(stops)) < 12
    assert abs(start_of_second - len(stops) - 600) < 12
