"""Write gena-mini's model card from what training and evaluation left in its folder.

python -m tools.mini_card

No figure and no hash in the card is typed by hand; a test compares the card with the files.
"""

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

from converter.checkpoint.files import SHIPPED_MODELS
from converter.digests import sha256_file
from tools.evaluate_mini import table

FILES = ("config.json", "tokenizer.json", "model.safetensors", "training.json", "evaluation.json")

_CARD = Template("""\
# gena-mini

A small GENA-LM that ships with this project, so that everything runs with no download. Same
file layout, same arithmetic, same special tokens and the same output shape (512 x 768) as
GENA-LM bert-base; $layers layers instead of 12 and a vocabulary of $vocab_size tokens.

**What it is not for.** Not for results, and not for judging GENA-LM. It was trained on
$million_tokens million tokens, and its mean-pooled features came out like this on held-out DNA
(accuracy of a linear probe):

$verdict

Use 4-mer frequencies rather than this model wherever the answer matters. It has seen two
species and a phage, of the fly only upstream regions; no mammal, no plant, no fungus. It is not a
stand-in for GENA-LM bert-base: features of the two cannot be compared or mixed. It says
nothing about variants, disease or people. What it is good for is everything that needs real
weights in the real layout and not good features: trying the service, tests, demonstrations.

## Data

| file | Debian package | what |
|---|---|---|
| `dm3_upstream2000.fa.gz` | r-bioc-biostrings | 2 kb upstream of Drosophila transcripts (dm3) |
| `NC_008253.fna.gz` | bowtie-examples | Escherichia coli 536, complete genome |
| `lambda_virus.fa.gz` | bowtie2-examples | phage lambda, complete genome; training only |

SHA-256 of the files that were read:

```
$sources
```

**Licence.** The packages' copyright files put everything in them, with no separate
statement about the sequences, under Artistic-2.0 (r-bioc-biostrings, bowtie-examples) and
GPL-3.0-or-later (bowtie2-examples). The sequences themselves are public: UCSC dm3 and the
reference sequences NC_008253 and NC_001416. No sequence is shipped here; the weights come
under this project's licence.

**Cleaning.** Upper case; letters other than A, C, G, T become N; runs of ten or more N end
a contig. Upstream regions of transcripts overlap (52 Mb in the file, 25 Mb of different
DNA): they are first merged into contigs by their coordinates, where they overlap they must
agree. chrU, chrUextra and chr*Het are left out, as they may belong to any arm. Both
strands.

**Held out, from the tokenizer as well:** the whole fly arm chr2L (4.6 Mb of 25 Mb) and the
last fifth of the E. coli genome (base 3,951,137 to the end, 0.99 Mb). No base of a genome
is on both sides. What stays: repeats. Copies of one rRNA operon, insertion element or
transposon lie on both sides.

## Training

Masked-language modelling as for BERT: 15 % of the tokens, of which 80 % become [MASK], 10 %
a random token, 10 % stay. $steps batches of $tokens_per_batch tokens ($million_tokens
million tokens, [CLS] and [SEP] included): $short_window-token windows and, for $long_share
of the batches before and $long_share_in_decay during the decay of the learning rate,
$long_window-token windows. Windows begin anywhere, are full, and never cross a contig's
end. Shares of the windows: $species. Muon for hidden matrices
(learning rate $muon_learning_rate), AdamW for embeddings, norms and biases ($learning_rate);
$warmup_steps steps of warm-up, linear to zero over the last $decay_share of the steps; weight
decay $weight_decay. Matrix products in $arithmetic, the rest in float32; weights are stored in
fp16. No dropout. Seed $seed.

The tokenizer is BPE over $tokenizer_letters letters of the same training DNA in the same
shares; $vocab_size tokens, about 5 bp a token. N is a token of its own; it is rare in
training, so long runs of N mean nothing to this model. [MASK] works: the file holds the
head `cls.predictions` (its decoder is the word embeddings). There is no trained pooler and
none is stored.

```
python -m tools.train_mini --data <folder with the files or the .deb files> --steps $steps
python -m tools.evaluate_mini --data <the same>
python -m tools.mini_card
```

The same command gives the same bytes on the same kind of machine with the same number of
threads (here: 2; products in $arithmetic depend on the CPU's instructions too) and versions of
PyTorch and tokenizers, however often it is killed; that is tested on a tiny network. The full
run took 68 minutes on two cores with AVX512-BF16 and was not repeated. Optimizer, learning
rates and weight decay were chosen in runs of 300 to 900 steps, by the loss and by the first probe
below on windows of *training* DNA. The training log has the loss on held-out DNA too; nothing was
chosen by it.

## Figures

All on held-out DNA. Brackets are 95 % bootstrap intervals. Choices were fixed in
`tools/evaluate_mini.py` before results were seen. *Untrained* is this network before its
first step, from the same seed. *4-mers* are the 256 frequencies of the window.

$table

- **Masked tokens.** The baseline guesses by token frequencies in the *same* species'
  training DNA; the network has to find out the species by itself. A part of any gain is not
  biology: some neighbours of a token cannot occur, because BPE would have merged them.
- **E. coli, fly or shuffled.** $origin_window_bp-bp windows; the shuffled class is every
  second window, shuffled so that its dinucleotide counts stay exactly (Altschul and
  Erickson), half E. coli and half fly.
- **E. coli coding or intergenic.** $gene_window_bp-bp windows, either strand. Coding:
  inside ATG-to-stop frames of at least $shortest_gene_bp bp, longest first where they
  overlap; chance would give such a frame with probability 6e-7 a start. Intergenic: touched
  by no open frame (stop to stop, six frames) over $longest_open_frame_bp bp. There is no
  annotation in the data: genes shorter than that and RNA genes count as intergenic, and
  these stretches have fewer G and C and, by definition, more stops, which composition alone
  tells.
- **E. coli sense or antisense.** All windows of the same genes, each shown as its sense or
  antisense strand by chance.
- Probes: logistic regression on standardised features (mean of the last hidden states
  without [CLS] and [SEP]). Five contiguous regions; each is predicted from the other four,
  the next of which chose the regularisation among $regularisation.

## Files

```
$hashes
```
""")


def card(folder: Path) -> str:
    """The text of README.md for the files in `folder`."""
    training = _read(folder / "training.json")
    figures = _read(folder / "evaluation.json")
    recipe = training["recipe"]
    hashes = {name: sha256_file(folder / name) for name in FILES}
    if figures["sha256"]["weights"] != hashes["model.safetensors"]:
        raise ValueError("evaluation.json is about other weights; run tools.evaluate_mini again")
    choices = figures["choices"]
    return _CARD.substitute(
        recipe,
        layers=recipe["config"]["num_hidden_layers"],
        vocab_size=recipe["config"]["vocab_size"],
        long_window=recipe["config"]["max_position_embeddings"],
        long_share=f"{recipe['long_share']:.0%}",
        long_share_in_decay=f"{recipe['long_share_in_decay']:.0%}",
        decay_share=f"{recipe['decay_share']:.0%}",
        tokenizer_letters=f"{recipe['tokenizer_letters']:,}",
        species=", ".join(f"{name} {share:.0%}" for name, share in recipe["species"].items()),
        steps=training["steps"],
        million_tokens=f"{training['steps'] * recipe['tokens_per_batch'] / 1e6:.1f}",
        sources="\n".join(f"{digest}  {name}" for name, digest in training["sources"].items()),
        hashes="\n".join(f"{digest}  {name}" for name, digest in hashes.items()),
        table=table(figures),
        verdict="\n".join(verdict(row) for row in figures["probes"]),
        **{**choices, "regularisation": ", ".join(f"{c:g}" for c in choices["regularisation"])},
    )


def verdict(row: dict[str, Any]) -> str:
    """What a probe's intervals say, as one item of a list."""
    sayings = []
    for kind, name in (("untrained", "the same network untrained"), ("4-mers", "4-mers")):
        figure = row["trained_minus"][kind]
        if figure["low"] > 0:
            comparison = "better than"
        elif figure["high"] < 0:
            comparison = "worse than"
        else:
            comparison = "not distinguishable from"
        sayings.append(f"{comparison} {name} ({100 * row['accuracy'][kind]['mean']:.1f} %)")
    accuracy = 100 * row["accuracy"]["trained"]["mean"]
    return f"- {row['name']}: {accuracy:.1f} %, {' and '.join(sayings)}."


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.mini_card")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODELS["gena-mini"])
    options = parser.parse_args()
    (options.model / "README.md").write_text(card(options.model), encoding="utf-8")


if __name__ == "__main__":
    main()
