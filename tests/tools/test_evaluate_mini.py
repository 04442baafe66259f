import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic import random_dna, write_sources
from tools.evaluate_mini import (
    REGIONS,
    coding_examples,
    confidence_interval,
    evaluate,
    four_mer_frequencies,
    mean_pooled,
    predict_by_region,
    strand_examples,
    table,
)
from tools.mini.data import load_corpus, reverse_complement
from tools.mini.export import export
from tools.mini.network import untrained
from tools.mini.recipe import CONFIG, Recipe
from tools.mini.tokenizer import train_tokenizer

TINY = Recipe(
    config={
        **CONFIG,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "vocab_size": 64,
    },
    tokenizer_letters=50_000,
)


def test_pooling_leaves_out_specials_and_padding(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(load_corpus(write_sources(tmp_path)).training, TINY)
    encoder = untrained(TINY).bert.eval()
    generator = np.random.default_rng(0)
    sequences = [random_dna(length, generator) for length in (300, 20, 100)]
    together = mean_pooled(encoder, tokenizer, sequences)
    for row, sequence in enumerate(sequences):
        alone = mean_pooled(encoder, tokenizer, [sequence])[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_four_mers_are_counted_overlapping() -> None:
    [frequencies] = four_mer_frequencies(["AAAAAC"])
    assert frequencies.shape == (256,)
    assert frequencies[0] == pytest.approx(2 / 3)
    assert frequencies[1] == pytest.approx(1 / 3)


def test_a_probe_learns_what_is_there_and_nothing_from_noise() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(["one", "other"], size=1000)
    regions = np.arange(1000) * REGIONS // 1000
    noise = generator.normal(size=(1000, 5)).astype(np.float32)
    signal = noise.copy()
    signal[:, 2] += 4 * (labels == "one")
    assert (predict_by_region(signal, labels, regions) == labels).mean() > 0.95
    assert (predict_by_region(noise, labels, regions) == labels).mean() < 0.56


def test_the_interval_counts_clusters_not_examples() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(2, size=400).astype(np.float64)
    low, high = confidence_interval(values, np.arange(400), generator)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * 0.5 / 20, rel=0.15)
    repeated, clusters = np.repeat(values, 10), np.repeat(np.arange(400), 10)
    low, high = confidence_interval(repeated, clusters, generator)
    assert high - low == pytest.approx(4 * 0.5 / 20, rel=0.15)


def test_examples_of_genes_carry_their_truth() -> None:
    generator = np.random.default_rng(0)
    stops = "TTAATTAATTAA" * 25
    gene = "ATG" + "GCC" * 350 + "TAA"
    genome = (stops + gene + stops + reverse_complement(gene)) * 5 + stops
    for example in coding_examples(genome, generator):
        assert ("TTAATTAA" in example.sequence) == (example.label == "intergenic")
        assert 0 <= example.region < REGIONS
    strands = strand_examples(genome, generator)
    assert {example.label for example in strands} == {"sense", "antisense"}
    for example in strands:
        # GCC repeated, as against GGC.
        assert ("GCCGCC" in example.sequence) == (example.label == "sense")


def test_the_evaluation_gives_all_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    stops = "TTAATTAATTAA" * 25
    genome = "".join(
        stops + "ATG" + "".join(generator.choice(["GCC", "AAG", "CTG"], size=350)) + "TAA"
        for _ in range(40)
    )
    sources = write_sources(tmp_path / "data", genome=genome)
    corpus = load_corpus(sources)
    work, model = tmp_path / "work", tmp_path / "model"
    work.mkdir()
    tokenizer = train_tokenizer(corpus.training, TINY)
    (work / "tokenizer.json").write_text(tokenizer.to_str())
    export(untrained(TINY), TINY, {"steps": 0}, work, model)
    monkeypatch.setattr("tools.evaluate_mini.ORIGIN_WINDOWS_PER_CLASS", 20)
    monkeypatch.setattr("tools.evaluate_mini.MASKED_WINDOWS", {32: 4})
    monkeypatch.setattr("tools.evaluate_mini.REGULARISATION", (1e-3, 1e-2))

    figures = json.loads(json.dumps(evaluate(model, corpus)))
    assert len(figures["probes"]) == 3
    for row in figures["probes"]:
        # The untrained network is the same as the one that was exported, but for fp16.
        assert abs(row["trained_minus"]["untrained"]["mean"]) < 0.1
        for figure in row["accuracy"].values():
            assert 0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1
    for row in figures["masked_tokens"]:
        assert row["loss"] == pytest.approx(np.log(64), rel=0.05)
        assert 0 < row["unigram_entropy"] < np.log(64)
    lines = table(figures).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
