"""The DNA that gena-mini is trained and measured on, and how it is held out.

Three files that Debian packages carry:

- `dm3_upstream2000.fa.gz` (r-bioc-biostrings): 26,454 regions of 2,000 bp upstream of Drosophila
  transcripts (dm3), with coordinates in the header. Transcripts of one gene share regions and
  neighbouring genes overlap, so regions are first merged into contigs by their coordinates; only
  then is anything held out, and by whole chromosome arms.
- `NC_008253.fna.gz` (bowtie-examples): the genome of Escherichia coli 536.
- `lambda_virus.fa.gz` (bowtie2-examples): the genome of phage lambda, for training only.
"""

import gzip
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from converter.digests import sha256_file

FLY_FILE = "dm3_upstream2000.fa.gz"
ECOLI_FILE = "NC_008253.fna.gz"
LAMBDA_FILE = "lambda_virus.fa.gz"

# Where the Debian packages put the files once they are installed.
INSTALLED_FOLDERS = (
    Path("/usr/lib/R/site-library/Biostrings/extdata"),
    Path("/usr/share/doc/bowtie/examples/genomes"),
    Path("/usr/share/doc/bowtie2/examples/reference"),
)

# Unplaced and heterochromatic sequence (chrU, chrUextra, chr*Het) may belong to any arm and is
# left out altogether, so that it cannot carry held-out DNA into training.
FLY_ARMS = ("chr2L", "chr2R", "chr3L", "chr3R", "chr4", "chrX")
FLY_HELD_OUT_ARM = "chr2L"
# Of the E. coli genome the first four fifths are for training, the last fifth is held out.
ECOLI_TRAINING_FRACTION = 0.8

# Longer runs of N are gaps in the assembly: contigs end there.
LONGEST_N_RUN = 9
# Contigs are tokenized in pieces of at most this many letters.
PIECE_LENGTH = 20_000

_FLY_HEADER = re.compile(r"\S+_([fr]) (chr\w+):(-?\d+)-(-?\d+)")
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
_OTHER_LETTERS = re.compile("[^ACGTN]")
_GAP = re.compile(f"N{{{LONGEST_N_RUN + 1},}}")


@dataclass(frozen=True)
class Sources:
    """The three files."""

    fly: Path
    ecoli: Path
    phage: Path

    def sha256(self) -> dict[str, str]:
        """File name to SHA-256 of the compressed file."""
        files = (self.fly, self.ecoli, self.phage)
        return {path.name: sha256_file(path) for path in files}


@dataclass(frozen=True)
class Contig:
    """Contiguous DNA on the forward strand: letters A, C, G, T, N; `start` counts from 0."""

    species: str
    region: str
    start: int
    sequence: str

    @property
    def end(self) -> int:
        return self.start + len(self.sequence)


@dataclass(frozen=True)
class Corpus:
    """Training and held-out DNA; no base of the genome is in both."""

    training: tuple[Contig, ...]
    held_out: tuple[Contig, ...]


def find_sources(paths: Sequence[Path], unpack_into: Path) -> Sources:
    """Look for the three files.

    Args:
        paths: folders (searched with their subfolders), files, or `.deb` files; when empty,
            the folders of the installed Debian packages.
        unpack_into: where `.deb` files are unpacked.

    Raises:
        FileNotFoundError: naming the packages to install.
    """
    candidates: list[Path] = []
    for path in paths or INSTALLED_FOLDERS:
        candidates += sorted(path.rglob("*")) if path.is_dir() else [path]
    for package in [path for path in candidates if path.suffix == ".deb"]:
        target = unpack_into / package.stem
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(target)], check=True)
        candidates += sorted(target.rglob("*.gz"))
    by_name = {path.name: path for path in candidates if path.is_file()}
    missing = [name for name in (FLY_FILE, ECOLI_FILE, LAMBDA_FILE) if name not in by_name]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} not found. Install the Debian packages r-bioc-biostrings, "
            "bowtie-examples and bowtie2-examples, or pass --data with a folder that holds the "
            "files or the .deb files."
        )
    return Sources(by_name[FLY_FILE], by_name[ECOLI_FILE], by_name[LAMBDA_FILE])


def read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    """Header (less '>') and sequence, upper case, letters other than A, C, G, T as N."""
    header: str | None = None
    lines: list[str] = []
    with gzip.open(path, "rt", encoding="ascii") as file:
        for line in file:
            if line.startswith(">"):
                if header is not None:
                    yield header, _clean("".join(lines))
                header, lines = line[1:].strip(), []
            else:
                lines.append(line.strip())
    if header is not None:
        yield header, _clean("".join(lines))


def _clean(sequence: str) -> str:
    return _OTHER_LETTERS.sub("N", sequence.upper())


def reverse_complement(sequence: str) -> str:
    return sequence.translate(_COMPLEMENT)[::-1]


def merge_upstream_regions(records: Iterable[tuple[str, str]]) -> list[Contig]:
    """Regions of the fly file as contigs: the union of their coordinates on the forward strand.

    Args:
        records: header `<name>_<f|r> <chromosome>:<first>-<last>` (coordinates from 1, both
            included) and the sequence as transcribed, so reverse-complemented for `r`.

    Raises:
        ValueError: overlapping regions disagree about a base.
    """
    regions: set[tuple[str, int, str]] = set()
    for header, sequence in records:
        match = _FLY_HEADER.fullmatch(header)
        if match is None:
            raise ValueError(f"not a header of {FLY_FILE}: {header!r}")
        strand, chromosome, first = match[1], match[2], int(match[3])
        if chromosome in FLY_ARMS and first >= 1:  # two regions start before their chromosome
            forward = sequence if strand == "f" else reverse_complement(sequence)
            regions.add((chromosome, first - 1, forward))
    contigs: list[Contig] = []
    for chromosome, start, sequence in sorted(regions):
        last = contigs[-1] if contigs else None
        if last is None or last.region != chromosome or start > last.end:
            contigs.append(Contig("fly", chromosome, start, sequence))
            continue
        shared = min(last.end - start, len(sequence))
        if last.sequence[start - last.start :][:shared] != sequence[:shared]:
            raise ValueError(f"regions disagree at {chromosome}:{start + 1}")
        contigs[-1] = Contig("fly", chromosome, last.start, last.sequence + sequence[shared:])
    return contigs


def load_corpus(sources: Sources) -> Corpus:
    """Read the files and split them by region.

    Held out: fly arm `FLY_HELD_OUT_ARM`, and the last fifth of the E. coli genome.
    """
    fly = merge_upstream_regions(read_fasta(sources.fly))
    [(_, genome)] = read_fasta(sources.ecoli)
    [(_, phage)] = read_fasta(sources.phage)
    border = int(len(genome) * ECOLI_TRAINING_FRACTION)
    training = [contig for contig in fly if contig.region != FLY_HELD_OUT_ARM]
    training += [
        Contig("ecoli", "genome", 0, genome[:border]),
        Contig("lambda", "genome", 0, phage),
    ]
    held_out = [contig for contig in fly if contig.region == FLY_HELD_OUT_ARM]
    held_out.append(Contig("ecoli", "genome", border, genome[border:]))
    return Corpus(_split_at_gaps(training), _split_at_gaps(held_out))


def _split_at_gaps(contigs: Iterable[Contig]) -> tuple[Contig, ...]:
    parts: list[Contig] = []
    for contig in contigs:
        bounds = [0]
        for gap in _GAP.finditer(contig.sequence):
            bounds += gap.span()
        bounds.append(len(contig.sequence))
        for begin, end in zip(bounds[::2], bounds[1::2], strict=True):
            if end > begin:
                sequence = contig.sequence[begin:end]
                parts.append(Contig(contig.species, contig.region, contig.start + begin, sequence))
    return tuple(parts)


@dataclass(frozen=True)
class TokenStream:
    """Tokens of many pieces of DNA, end to end; windows never cross from one into the next.

    `ids` (T,) int32; `bounds` (P + 1,) int64: piece p is `ids[bounds[p]:bounds[p + 1]]`.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, contigs: Iterable[Contig], tokenizer: Tokenizer) -> "TokenStream":
        """Both strands of all contigs, without special tokens."""
        pieces: list[str] = []
        for contig in contigs:
            for strand in (contig.sequence, reverse_complement(contig.sequence)):
                pieces += cut(strand, PIECE_LENGTH)
        encoded: list[NDArray[np.int32]] = []
        for first in range(0, len(pieces), 256):
            batch = tokenizer.encode_batch(pieces[first : first + 256], add_special_tokens=False)
            encoded += [np.array(encoding.ids, dtype=np.int32) for encoding in batch]
        bounds = np.cumsum([0] + [len(ids) for ids in encoded])
        return cls(np.concatenate(encoded), bounds.astype(np.int64))

    def sample(self, count: int, length: int, generator: np.random.Generator) -> NDArray[np.int32]:
        """`count` windows of `length` tokens, each start equally likely; (count, length)."""
        starts_per_piece = np.maximum(np.diff(self.bounds) - length + 1, 0)
        last_start = np.cumsum(starts_per_piece)
        if last_start[-1] == 0:
            raise ValueError(f"no piece holds {length} tokens")
        drawn = generator.integers(last_start[-1], size=count)
        piece = np.searchsorted(last_start, drawn, side="right")
        offset = drawn - (last_start[piece] - starts_per_piece[piece])
        starts = self.bounds[piece] + offset
        windows: NDArray[np.int32] = self.ids[starts[:, None] + np.arange(length)]
        return windows


def cut(sequence: str, length: int) -> list[str]:
    """Consecutive pieces of at most `length` letters."""
    return [sequence[i : i + length] for i in range(0, len(sequence), length)]
