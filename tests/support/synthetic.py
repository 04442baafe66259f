"""Small stand-ins for the three files of DNA, with the same headers and overlaps."""

import gzip
from pathlib import Path

import numpy as np

from tools.mini.data import (
    ECOLI_FILE,
    FLY_ARMS,
    FLY_FILE,
    LAMBDA_FILE,
    Sources,
    reverse_complement,
)

REGION = 2000


def random_dna(length: int, generator: np.random.Generator) -> str:
    return "".join(generator.choice(list("ACGT"), size=length))


def write_sources(folder: Path, genome: str | None = None) -> Sources:
    """Fly: on each arm overlapping, touching and separate regions of both strands, lower case.

    `genome` stands for E. coli's; by default random letters and one gap.
    """
    generator = np.random.default_rng(0)
    fly: list[str] = []
    for arm in (*FLY_ARMS, "chrU", "chr2LHet"):
        chromosome = random_dna(20_000, generator)
        for number, start in enumerate((0, 500, 500, 2500, 7000, 8999, 11_000, 15_000)):
            region = chromosome[start : start + REGION]
            strand = "fr"[number % 2]
            shown = region if strand == "f" else reverse_complement(region)
            where = f"{arm}:{start + 1}-{start + REGION}"
            fly.append(
                f">NM_{number}_up_2000_{arm}_{start + 1}_{strand} {where}\n{shown.lower()}\n"
            )
    fly.append(f">NM_9_up_2000_chr3R_-5_f chr3R:-5-1994\n{'n' * REGION}\n")
    if genome is None:
        genome = random_dna(30_000, generator) + "N" * 20 + random_dna(30_000, generator)
    texts = {
        FLY_FILE: "".join(fly),
        ECOLI_FILE: f">gi|1| Escherichia coli\n{genome}\n",
        LAMBDA_FILE: f">gi|2| phage lambda\n{random_dna(8000, generator)}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with gzip.open(folder / name, "wt", encoding="ascii") as file:
            file.write(text)
    return Sources(folder / FLY_FILE, folder / ECOLI_FILE, folder / LAMBDA_FILE)
