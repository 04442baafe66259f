"""What `gena embed` takes, checked."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from app.embed.embedder import Model
from app.embed.errors import UsageError
from app.embed.sequences import STDIN
from app.embed.shards import VectorType
from app.embed.whole_numbers import MOST_DIGITS, whole_number
from app.embed.windows import Cut
from app.requests.options import Ambiguous, Choices, Strand, VectorPooling
from converter.errors import brief
from converter.network.config import WINDOWS
from converter.paths import user_path
from converter.tokenizer import SPECIALS

DEFAULT_SHARD_WINDOWS = 512
# Of its own in the longest window that a model has.
_MOST_TOKENS = max(WINDOWS) - SPECIALS


@dataclass(frozen=True)
class EmbedOptions:
    """A run.

    Attributes:
        input: a file, or `-`.
        cut: without the digest of the BED file.
        part, parts: shards whose number is part - 1, modulo parts, are made here.
        url: of a service that computes; None: this machine does.
        ray: address of a Ray cluster that computes, or `auto`.
    """

    input: str
    output: Path
    cut: Cut
    bed: Path | None
    choices: Choices
    shard_windows: int
    part: int
    parts: int
    url: str | None
    ray: str | None
    dry_run: bool
    yes: bool
    json: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes beside the settings."""
    add = parser.add_argument
    add("input", nargs="?", help="FASTA, FASTQ, GenBank or EMBL, also gzipped; - is standard input")
    add(
        "-o", "--output", required=True, metavar="PATH",
        help="folder of the shards; with --merge the Parquet file",
    )  # fmt: skip
    add("--merge", metavar="FOLDER", help="make one Parquet file of all its shards")
    _add_cut(parser)
    _add_vectors(parser)
    _add_work(parser)


def _add_cut(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what gets a vector (each record, unless said here)")
    kinds = group.add_mutually_exclusive_group()
    add = kinds.add_argument
    add("--windows", type=_count, metavar="BASES", help="windows of so many bases")
    add(
        "--tokens", type=_count, metavar="N",
        help="of so many tokens, up to those of a window of the model (510; modernGENA: 1022)",
    )  # fmt: skip
    add("--bed", metavar="FILE", help="the intervals of a BED file, each on its strand")
    add = group.add_argument
    add(
        "--stride", type=_count, metavar="BASES",
        help="of --windows: one begins every so many bases (default and most: where one ends)",
    )  # fmt: skip
    add(
        "--overlap", type=_size, default=0, metavar="N",
        help="tokens that neighbouring windows of the model share",
    )  # fmt: skip
    add("--flank", type=_size, default=0, metavar="BASES", help="of --bed: added on both sides")
    add(
        "--center", type=_count, metavar="BASES",
        help="of --bed: bases around the middle of each interval, in its place",
    )  # fmt: skip


def _add_vectors(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("vectors (as in POST /embeddings)").add_argument
    add("--pooling", choices=get_args(VectorPooling), help="default: mean")
    add("--strand", choices=get_args(Strand), default="forward")
    add("--normalize", action="store_true", help="scale vectors to length 1")
    add("--dtype", choices=get_args(VectorType), default="float32")
    add(
        "--ambiguous", choices=get_args(Ambiguous), default="error",
        help="refuse what has few letters of A C G T N, or take it",
    )  # fmt: skip
    add("--per-token", action="store_true", help="a row a token, as lists")


def _add_work(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it is done").add_argument
    add("--url", metavar="URL", help="compute by a service that runs")
    add(
        "--ray", metavar="auto|HOST:PORT",
        help="compute on a Ray cluster whose nodes all see input and output at their paths",
    )  # fmt: skip
    add(
        "--part", metavar="K/N", default="1/1",
        help="make every N-th shard, from the K-th on: one of N machines",
    )  # fmt: skip
    add(
        "--shard-windows", type=_count, default=DEFAULT_SHARD_WINDOWS, metavar="N",
        help=f"windows of a shard, which is what a crash costs (default: {DEFAULT_SHARD_WINDOWS})",
    )  # fmt: skip
    add("--dry-run", action="store_true", help="say what it would take, write nothing")
    add("--yes", action="store_true", help="also where it takes more than half of the free disk")
    add("--json", action="store_true", help="events on standard output")


def read_options(arguments: argparse.Namespace) -> EmbedOptions:
    """What was asked for.

    Raises:
        UsageError: it does not go together. What depends on the model, see `require_fitting`.
    """
    if arguments.input is None:
        raise UsageError("Name a file to embed; - is standard input.")
    if arguments.input.startswith(("http://", "https://", "ftp://")):
        raise UsageError(
            f"{brief(arguments.input)} is no file here. What an address has: "
            f"curl -L {shlex.quote(arguments.input)} | gena embed - -o FOLDER"
        )
    _check_together(arguments)
    output = user_path(arguments.output)
    if output.suffix == ".parquet" and not output.exists():
        raise UsageError(
            f"-o {output}: -o takes the folder of the shards, such as {output.with_suffix('')}. "
            "One file comes of it when it is done: gena embed --merge "
            f"{shlex.quote(str(output.with_suffix('')))} -o {shlex.quote(str(output))}"
        )
    part, parts = _part(arguments.part)
    cut = Cut(
        bases=arguments.windows,
        base_stride=arguments.stride,
        tokens=arguments.tokens,
        overlap=arguments.overlap if arguments.tokens else 0,
        flank=arguments.flank,
        center=arguments.center,
    )
    return EmbedOptions(
        input=arguments.input if arguments.input == STDIN else str(user_path(arguments.input)),
        output=output,
        cut=cut,
        bed=None if arguments.bed is None else user_path(arguments.bed),
        choices=_choices(arguments),
        shard_windows=arguments.shard_windows,
        part=part,
        parts=parts,
        url=arguments.url,
        ray=arguments.ray,
        dry_run=arguments.dry_run,
        yes=arguments.yes,
        json=arguments.json,
    )


def _check_together(arguments: argparse.Namespace) -> None:
    needs: list[tuple[str, Any, str, Any]] = [
        ("--stride", arguments.stride, "--windows", arguments.windows),
        ("--flank", arguments.flank, "--bed", arguments.bed),
        ("--center", arguments.center, "--bed", arguments.bed),
    ]
    for option, given, needed, there in needs:
        if given and not there:
            raise UsageError(f"{option} is for {needed}.")
    if arguments.stride and arguments.stride > arguments.windows:
        raise UsageError(_gaps(arguments.windows, arguments.stride))
    if arguments.url and not _is_url(arguments.url):
        raise UsageError(
            f"--url {brief(arguments.url)}: it begins with http:// or https://, and has the name "
            "of a host, and a port where it is not the usual one."
        )
    if arguments.url and arguments.tokens:
        raise UsageError(
            "--tokens needs the model's tokenizer on this machine: leave --url out, or cut by "
            "bases with --windows."
        )
    if arguments.url and arguments.per_token:
        raise UsageError("--per-token is computed on this machine: leave --url out.")
    if arguments.per_token and (
        arguments.pooling or arguments.normalize or arguments.strand == "both"
    ):
        raise UsageError(
            "--per-token gives every token its row: --pooling, --normalize and --strand both are "
            "for vectors."
        )
    if arguments.ray is not None:
        _check_cluster(arguments)
    # What no model has is refused before one is fetched.
    if arguments.tokens and arguments.tokens > _MOST_TOKENS:
        raise UsageError(
            f"--tokens {arguments.tokens}: no model takes more than {_MOST_TOKENS} at a time."
        )
    _require_less(arguments.overlap, arguments.tokens or _MOST_TOKENS)


def require_fitting(options: EmbedOptions, model: Model) -> None:
    """Compare what was asked for with the windows of the model, once it is known.

    Raises:
        UsageError: the model has no such windows.
    """
    most = model.window - SPECIALS
    if options.cut.tokens is not None and options.cut.tokens > most:
        raise UsageError(f"--tokens {options.cut.tokens}: {model.model} takes {most} at a time.")
    _require_less(options.choices.stride, most)


def _require_less(overlap: int, limit: int) -> None:
    if overlap >= limit:
        raise UsageError(f"--overlap has to be less than a window of {limit} tokens.")


def _gaps(size: int, stride: int) -> str:
    """Why windows do not stand apart: nobody would see in the results what was left out."""
    return (
        f"--stride {stride} is more than --windows {size}: {stride - size} of every {stride} bases "
        f"would be in no window. Take at most {size}. Where a sample is wanted, list its windows "
        f"and give them as --bed sample.bed: bedtools makewindows -g genome.fa.fai -w {size} "
        f"-s {stride} > sample.bed"
    )


def _check_cluster(arguments: argparse.Namespace) -> None:
    if arguments.url:
        raise UsageError("--ray computes on the cluster's nodes: leave --url out.")
    if arguments.dry_run:
        raise UsageError("--dry-run measures this machine: leave --ray out.")
    if arguments.input == STDIN:
        raise UsageError("--ray: each node reads the input at its path. Name a file.")
    host, colon, port = arguments.ray.rpartition(":")
    if (arguments.ray != "auto" and not (host and colon and port.isdecimal())) or "/" in host:
        raise UsageError(
            f"--ray {arguments.ray}: it is auto, or HOST:PORT as `ray start --head` tells it."
        )


def _choices(arguments: argparse.Namespace) -> Choices:
    return Choices(
        pooling="none" if arguments.per_token else arguments.pooling or "mean",
        overflow="window",
        stride=0 if arguments.tokens else arguments.overlap,
        strand=arguments.strand,
        normalize=arguments.normalize,
        dtype=arguments.dtype,
        ambiguous=arguments.ambiguous,
        on_error="skip",
    )


def _part(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    k, n = whole_number(part), whole_number(parts)
    if not slash or k is None or n is None or not 1 <= k <= n:
        raise UsageError(f"--part {brief(text)}: it is K/N, such as 3/40, with K from 1 to N.")
    return k, n


def _count(text: str) -> int:
    return _number(text, 1)


def _size(text: str) -> int:
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    number = whole_number(text)
    if number is None or number < least:
        raise argparse.ArgumentTypeError(
            f"{brief(text, 40)} is not a whole number of at least {least} and at most "
            f"{MOST_DIGITS} digits"
        )
    return number


def _is_url(text: str) -> bool:
    """Whether it is an address of a server, its port included."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, or a port that is none
        return False
