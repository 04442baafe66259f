import subprocess
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from tests.support.synthetic import random_dna, write_sources
from tools.mini.data import (
    FLY_ARMS,
    FLY_HELD_OUT_ARM,
    Contig,
    TokenStream,
    find_sources,
    load_corpus,
    merge_upstream_regions,
    read_fasta,
    reverse_complement,
)


def test_no_base_is_both_in_training_and_held_out(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    corpus = load_corpus(sources)
    everything = [*corpus.training, *corpus.held_out]
    for a, b in combinations(everything, 2):
        if (a.species, a.region) == (b.species, b.region):
            assert a.end <= b.start or b.end <= a.start
    assert {c.region for c in corpus.held_out if c.species == "fly"} == {FLY_HELD_OUT_ARM}
    assert {c.region for c in corpus.training if c.species == "fly"} == (
        set(FLY_ARMS) - {FLY_HELD_OUT_ARM}
    )
    # The DNA itself, not only its coordinates: no 50-mer of either strand is shared.
    seen = {
        strand[i : i + 50]
        for contig in corpus.training
        for strand in (contig.sequence, reverse_complement(contig.sequence))
        for i in range(len(strand) - 49)
    }
    for contig in corpus.held_out:
        assert not any(contig.sequence[i : i + 50] in seen for i in range(len(contig.sequence)))


def test_overlapping_regions_become_one_contig_and_gaps_end_contigs(tmp_path: Path) -> None:
    corpus = load_corpus(write_sources(tmp_path))
    arm = [c for c in corpus.held_out if c.species == "fly"]
    assert [(c.start, c.end) for c in arm] == [
        (0, 4500),
        (7000, 10_999),
        (11_000, 13_000),
        (15_000, 17_000),
    ]
    genome = [c for c in corpus.training if c.species == "ecoli"]
    assert [(c.start, c.end) for c in genome] == [(0, 30_000), (30_020, 48_016)]
    assert set("".join(c.sequence for c in corpus.training)) == set("ACGT")


def test_regions_that_disagree_about_a_base_are_refused() -> None:
    records = [("a_f chr4:1-4", "AACC"), ("b_r chr4:3-6", "AAGA")]  # TCTT forward
    with pytest.raises(ValueError, match="chr4:3"):
        merge_upstream_regions(records)


def test_letters_other_than_acgt_become_n(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    [*_, (_, sequence)] = read_fasta(sources.fly)
    assert sequence == "N" * 2000


def test_sources_are_found_in_folders_and_debian_packages(tmp_path: Path) -> None:
    inside = tmp_path / "package" / "usr" / "share" / "examples"
    expected = write_sources(inside).sha256()
    control = tmp_path / "package" / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        "Package: examples\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
        "Description: x\n"
    )
    debs = tmp_path / "debs"
    debs.mkdir()
    command = ["dpkg-deb", "--build", str(tmp_path / "package"), str(debs / "examples.deb")]
    subprocess.run(command, check=True, capture_output=True)
    assert find_sources([inside], tmp_path / "unused").sha256() == expected
    assert find_sources([debs], tmp_path / "unpacked").sha256() == expected
    with pytest.raises(FileNotFoundError, match="bowtie2-examples"):
        find_sources([tmp_path / "package" / "DEBIAN"], tmp_path / "unused")


def test_windows_never_cross_from_one_piece_into_the_next() -> None:
    letters = Tokenizer(models.BPE(vocab={"A": 0, "C": 1, "G": 2, "T": 3}, merges=[]))
    contigs = [
        Contig("fly", "chr4", 0, "A" * 30),
        Contig("fly", "chr4", 50, "C" * 12),
        Contig("fly", "chr4", 70, "A" * 5),
    ]
    stream = TokenStream.of(contigs, letters)
    assert len(stream.ids) == 2 * (30 + 12 + 5)
    windows = stream.sample(400, 10, np.random.default_rng(0))
    assert windows.shape == (400, 10)
    assert (windows == windows[:, :1]).all()
    assert set(windows[:, 0]) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="31"):
        stream.sample(1, 31, np.random.default_rng(0))


def test_tokens_of_both_strands_are_in_the_stream() -> None:
    letters = Tokenizer(models.BPE(vocab={"A": 0, "C": 1, "G": 2, "T": 3}, merges=[]))
    sequence = random_dna(100, np.random.default_rng(0))
    stream = TokenStream.of([Contig("fly", "chr4", 0, sequence)], letters)
    text = "".join("ACGT"[i] for i in stream.ids)
    assert text == sequence + reverse_complement(sequence)
