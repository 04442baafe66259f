"""Measure gena-mini on held-out DNA, beside its baselines.

    python -m tools.evaluate_mini --data /path/to/debs

Writes `evaluation.json` into the model's folder and prints a table. Only DNA that neither the
network nor its tokenizer was trained on is used (see `tools.mini.data`).

Chosen before any result was seen: window lengths, ORF limits, numbers of windows, five regions,
the grid of the regularisation. Every probe is a logistic regression on standardised features.
The held-out stretches are cut into five contiguous regions; each is predicted by a probe that was
trained on the other four, one of which (the next) first chose the regularisation.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from converter.checkpoint.files import SHIPPED_MODELS, find_checkpoint
from converter.network.loading import Checkpoint, load_checkpoint
from converter.network.reference import ReferenceEncoder
from tools.dinucleotide_shuffle import dinucleotide_shuffle
from tools.mini.data import Contig, Corpus, TokenStream, find_sources, load_corpus
from tools.mini.data import reverse_complement as rc
from tools.mini.network import MaskedLanguageModel, untrained
from tools.mini.objective import masked_losses
from tools.mini.recipe import PAD, Recipe
from tools.open_reading_frames import likely_genes, without_open_frames

SEED = 0
REGIONS = 5
BOOTSTRAP_SAMPLES = 2000
REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

ORIGIN_WINDOW = 512  # bp
ORIGIN_WINDOWS_PER_CLASS = 700
GENE_WINDOW = 200  # bp; intergenic stretches are rarely longer
SHORTEST_GENE = 900  # bp from ATG to stop
LONGEST_OPEN_FRAME = 300  # bp between stops that an intergenic stretch may touch
MASKED_WINDOWS = {128: 384, 512: 96}  # tokens a window: number of windows


@dataclass(frozen=True)
class Example:
    """A window of DNA. `region`: 0 to 4; `cluster`: examples that are not independent share it."""

    sequence: str
    label: str
    region: int
    cluster: int


def origin_examples(contigs: Sequence[Contig], generator: np.random.Generator) -> list[Example]:
    """E. coli, fly, and dinucleotide-preserving shuffles of every second window of both."""
    examples: list[Example] = []
    for species in ("ecoli", "fly"):
        own = [contig for contig in contigs if contig.species == species]
        first, last = min(c.start for c in own), max(c.end for c in own)
        windows = [
            (contig.start + offset, contig.sequence[offset : offset + ORIGIN_WINDOW])
            for contig in own
            for offset in range(0, len(contig.sequence) - ORIGIN_WINDOW + 1, ORIGIN_WINDOW)
        ]
        windows = [(start, sequence) for start, sequence in windows if "N" not in sequence]
        chosen = np.linspace(0, len(windows) - 1, ORIGIN_WINDOWS_PER_CLASS).astype(int)
        for turn, index in enumerate(chosen):
            start, sequence = windows[index]
            region = (start - first) * REGIONS // (last - first)
            cluster = len(examples)
            examples.append(Example(sequence, species, region, cluster))
            if turn % 2:
                shuffled = dinucleotide_shuffle(sequence, generator)
                examples.append(Example(shuffled, "shuffled", region, cluster))
    return examples


def coding_examples(genome: str, generator: np.random.Generator) -> list[Example]:
    """One window from each likely gene; as many from stretches without an open frame."""
    intergenic = [
        (start + offset, cluster)
        for cluster, (start, end) in enumerate(without_open_frames(genome, LONGEST_OPEN_FRAME))
        for offset in range(0, end - start - GENE_WINDOW + 1, GENE_WINDOW)
    ]
    genes = likely_genes(genome, SHORTEST_GENE)
    number = min(len(intergenic), len(genes))
    examples: list[Example] = []
    for index in np.linspace(0, len(intergenic) - 1, number).astype(int):
        start, cluster = intergenic[index]
        examples.append(_window(genome, start, "intergenic", cluster, generator))
    clusters = len(intergenic)
    for index in np.linspace(0, len(genes) - 1, number).astype(int):
        gene = genes[index]
        start = int(generator.integers(gene.start, gene.end - GENE_WINDOW + 1))
        examples.append(_window(genome, start, "coding", clusters + int(index), generator))
    return examples


def strand_examples(genome: str, generator: np.random.Generator) -> list[Example]:
    """All windows of likely genes, each shown as its sense or its antisense strand by chance."""
    examples: list[Example] = []
    for cluster, gene in enumerate(likely_genes(genome, SHORTEST_GENE)):
        first = gene.start + int(generator.integers(3))
        for start in range(first, gene.end - GENE_WINDOW + 1, GENE_WINDOW):
            shown = _window(genome, start, "", cluster, generator)
            forward = shown.sequence == genome[start : start + GENE_WINDOW]
            label = "sense" if forward == (gene.strand == 1) else "antisense"
            examples.append(Example(shown.sequence, label, shown.region, cluster))
    return examples


def _window(
    genome: str, start: int, label: str, cluster: int, generator: np.random.Generator
) -> Example:
    """A window of either strand."""
    sequence = genome[start : start + GENE_WINDOW]
    shown = sequence if generator.random() < 0.5 else rc(sequence)
    return Example(shown, label, start * REGIONS // len(genome), cluster)


def mean_pooled(
    encoder: ReferenceEncoder, tokenizer: Tokenizer, sequences: Sequence[str]
) -> NDArray[np.float32]:
    """Mean of the last hidden states over real tokens, [CLS] and [SEP] left out; (N, H)."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(sequences))]
    pooled = np.empty((len(encoded), encoder.config.hidden_size), dtype=np.float32)
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    for first in range(0, len(by_length), 32):
        rows = by_length[first : first + 32]
        longest = len(encoded[rows[-1]])
        ids = torch.full((len(rows), longest), PAD)
        inner = torch.zeros((len(rows), longest, 1))
        for row, index in enumerate(rows):
            ids[row, : len(encoded[index])] = torch.tensor(encoded[index])
            inner[row, 1 : len(encoded[index]) - 1] = 1.0
        with torch.inference_mode():
            pooled[rows] = ((encoder(ids) * inner).sum(1) / inner.sum(1)).numpy()
    return pooled


def four_mer_frequencies(sequences: Sequence[str]) -> NDArray[np.float32]:
    """Share of each of the 256 4-mers, overlapping, on the given strand; (N, 256)."""
    column = {"".join(letters): i for i, letters in enumerate(product("ACGT", repeat=4))}
    counts = np.zeros((len(sequences), len(column)), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        for i in range(len(sequence) - 3):
            counts[row, column[sequence[i : i + 4]]] += 1
    frequencies: NDArray[np.float32] = counts / counts.sum(axis=1, keepdims=True)
    return frequencies


def predict_by_region(
    features: NDArray[np.float32], labels: NDArray[np.str_], regions: NDArray[np.int64]
) -> NDArray[np.str_]:
    """Each region's labels, predicted by a probe that was trained on the others; (N,)."""
    predicted = np.empty_like(labels)
    for region in range(REGIONS):
        test, choosing = regions == region, regions == (region + 1) % REGIONS
        fitting = ~(test | choosing)
        scores = [
            _probe(c)
            .fit(features[fitting], labels[fitting])
            .score(features[choosing], labels[choosing])
            for c in REGULARISATION
        ]
        best = _probe(REGULARISATION[int(np.argmax(scores))])
        predicted[test] = best.fit(features[~test], labels[~test]).predict(features[test])
    return predicted


def _probe(regularisation: float) -> Any:
    # Here and not above: who only wants the table does not wait for them.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=1000))


def confidence_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64], generator: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean of `values` (N,), whole clusters drawn."""
    _, cluster = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(cluster, weights=values), np.bincount(cluster)
    draws = generator.integers(len(sizes), size=(BOOTSTRAP_SAMPLES, len(sizes)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def probe(
    name: str, examples: Sequence[Example], features: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Accuracy of each kind of features, and how much better the trained network is."""
    labels = np.array([example.label for example in examples])
    regions = np.array([example.region for example in examples])
    clusters = np.array([example.cluster for example in examples])
    generator = np.random.default_rng(SEED)
    right = {
        kind: (predict_by_region(x, labels, regions) == labels).astype(np.float64)
        for kind, x in features.items()
    }
    names, counts = np.unique(labels, return_counts=True)

    def figure(values: NDArray[np.float64]) -> dict[str, float]:
        low, high = confidence_interval(values, clusters, generator)
        return {
            "mean": round(float(values.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }

    return {
        "name": name,
        "examples": {str(n): int(c) for n, c in zip(names, counts, strict=True)},
        "accuracy": {kind: figure(values) for kind, values in right.items()},
        "trained_minus": {
            kind: figure(right["trained"] - values)
            for kind, values in right.items()
            if kind != "trained"
        },
    }


def masked_token_figures(
    model: MaskedLanguageModel, corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe
) -> list[dict[str, Any]]:
    """Loss in nats beside that of guessing by the token frequencies of the species' training DNA.

    `unigram_entropy` is that baseline on the same masked tokens: the cross-entropy of held-out
    tokens under training frequencies (each count plus one), known separately for each species.
    """
    figures: list[dict[str, Any]] = []
    for species in ("ecoli", "fly"):
        training = TokenStream.of([c for c in corpus.training if c.species == species], tokenizer)
        held_out = TokenStream.of([c for c in corpus.held_out if c.species == species], tokenizer)
        counts = np.bincount(training.ids, minlength=tokenizer.get_vocab_size()) + 1.0
        surprise = -np.log(counts / counts.sum())
        for length, windows in MASKED_WINDOWS.items():
            losses, labels = masked_losses(model, held_out, recipe, length=length, windows=windows)
            unigram = surprise[labels]
            gain = (unigram - losses).mean(axis=1)
            low, high = confidence_interval(gain, np.arange(len(gain)), np.random.default_rng(SEED))
            figures.append(
                {
                    "species": species,
                    "window_tokens": length,
                    "masked_tokens": int(losses.size),
                    "loss": round(float(losses.mean()), 4),
                    "unigram_entropy": round(float(unigram.mean()), 4),
                    "gain": {
                        "mean": round(float(gain.mean()), 4),
                        "low": round(low, 4),
                        "high": round(high, 4),
                    },
                }
            )
    return figures


def language_model(checkpoint: Checkpoint, recipe: Recipe) -> MaskedLanguageModel:
    """The shipped encoder and head as one network."""
    if checkpoint.head is None:
        raise ValueError(f"{checkpoint.files.source} has no masked-language-model head")
    model = untrained(recipe)
    model.bert.load_state_dict(checkpoint.encoder().state_dict())
    model.cls["predictions"].load_state_dict(checkpoint.head)
    return model


def evaluate(model_folder: Path, corpus: Corpus) -> dict[str, Any]:
    """All figures, ready for JSON."""
    checkpoint = load_checkpoint(find_checkpoint(str(model_folder)))
    tokenizer = Tokenizer.from_file(str(checkpoint.files.tokenizer))
    training = json.loads((model_folder / "training.json").read_text(encoding="utf-8"))
    recipe = Recipe(**training["recipe"])
    encoders = {"trained": checkpoint.encoder(), "untrained": untrained(recipe).bert.eval()}

    [genome] = [contig.sequence for contig in corpus.held_out if contig.species == "ecoli"]
    tasks: dict[str, Callable[[np.random.Generator], list[Example]]] = {
        "E. coli, fly or shuffled": lambda g: origin_examples(corpus.held_out, g),
        "E. coli coding or intergenic": lambda g: coding_examples(genome, g),
        "E. coli sense or antisense": lambda g: strand_examples(genome, g),
    }
    probes: list[dict[str, Any]] = []
    for number, (name, make) in enumerate(tasks.items()):
        examples = make(np.random.default_rng((SEED, number)))
        sequences = [example.sequence for example in examples]
        features = {
            kind: mean_pooled(encoder, tokenizer, sequences) for kind, encoder in encoders.items()
        }
        features["4-mers"] = four_mer_frequencies(sequences)
        probes.append(probe(name, examples, features))
    return {
        "sha256": checkpoint.files.sha256,
        "choices": {
            "regions": REGIONS,
            "bootstrap_samples": BOOTSTRAP_SAMPLES,
            "regularisation": list(REGULARISATION),
            "origin_window_bp": ORIGIN_WINDOW,
            "gene_window_bp": GENE_WINDOW,
            "shortest_gene_bp": SHORTEST_GENE,
            "longest_open_frame_bp": LONGEST_OPEN_FRAME,
        },
        "masked_tokens": masked_token_figures(
            language_model(checkpoint, recipe), corpus, tokenizer, recipe
        ),
        "probes": probes,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| masked tokens | window | loss, nats (bits) | unigram entropy, nats (bits) "
        "| gain, nats [95 %] |",
        "|---|---|---|---|---|",
    ]
    for row in figures["masked_tokens"]:
        gain = row["gain"]
        lines.append(
            f"| {row['species']} | {row['window_tokens']} tokens | {_nats(row['loss'])} "
            f"| {_nats(row['unigram_entropy'])} "
            f"| {gain['mean']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}] |"
        )
    lines += [
        "",
        "| probe (examples) | gena-mini | untrained | 4-mers | gena-mini - untrained "
        "| gena-mini - 4-mers |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["probes"]:
        cells = [_percent(row["accuracy"][kind]) for kind in ("trained", "untrained", "4-mers")]
        cells += [_percent(row["trained_minus"][kind], "+") for kind in ("untrained", "4-mers")]
        examples = " / ".join(f"{count} {name}" for name, count in row["examples"].items())
        lines.append(f"| {row['name']} ({examples}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _nats(value: float) -> str:
    return f"{value:.3f} ({value / np.log(2):.3f})"


def _percent(figure: dict[str, float], sign: str = "") -> str:
    mean, low, high = (f"{100 * figure[key]:{sign}.1f}" for key in ("mean", "low", "high"))
    return f"{mean} % [{low}, {high}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate_mini",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], help="files, folders or .deb files with the DNA"
    )
    parser.add_argument("--work", type=Path, default=Path("models/.gena-mini-training"))
    parser.add_argument("--model", type=Path, default=SHIPPED_MODELS["gena-mini"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    corpus = load_corpus(find_sources(options.data, options.work / "unpacked"))
    figures = evaluate(options.model, corpus)
    text = json.dumps(figures, indent=2) + "\n"
    (options.model / "evaluation.json").write_text(text, encoding="utf-8")
    print(table(figures))


if __name__ == "__main__":
    main()
