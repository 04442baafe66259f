"""How fast a package is computed here: by `torch` and `mil`, beside what others take.

    python -m benchmarks.runtime [--model NAME] [--package PATH] [--threads N] [--rounds N] [--json]

All run in turns, in fp32 with the same number of threads, as people run them: `torch` in a process
that is told what the service's is, the others in this one. Medians are compared with transformers'
own model (SDPA), and with OpenVINO and ONNX Runtime where they are installed; and with bare matrix
products of as many operations, which have their turn as well: what a machine can do changes from
one second to the next. Peak memory is that of a spawned process that only predicts. The exit status
is 1 where a limit is exceeded.

Only an idle machine gives figures that mean anything: a thread that waits for another that was put
aside spins meanwhile.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.model.performance import SpareMemory
from benchmarks.peers import Peer, installed_peers
from benchmarks.subjects import SUBJECTS, Subject
from converter.conversion.build import PackagePlan, build_package
from converter.measuring import peak_memory_mib
from converter.mil.executor import PackageExecutor
from converter.mil.packed_encoder import PackedEncoder
from converter.network.families import family_of
from converter.options import BuildOptions, function_names
from converter.package.interface import PackageInterface
from converter.runtime.torch_runtime import CPU_BATCH_TOKENS
from tools.served import told_as_served

_SETTLE_SECONDS = 0.2
# (B, n) int32 ids to the seconds that their prediction takes.
Timed = Callable[[NDArray[np.int32]], float]
MAX_PEAK_MIB = 1024


@dataclass(frozen=True)
class Row:
    """Medians of one prediction, in milliseconds by who computes.

    Attributes:
        ratio: of torch to transformers.
        share: of the machine's fp32 matrix peak that torch reaches: bare products to torch.
        share_of_best: of the peak at its best moment.
    """

    windows: int
    tokens: int
    milliseconds: dict[str, float]
    ratio: float
    limit: float | None
    share: float
    share_of_best: float


@dataclass(frozen=True)
class Memory:
    """Of a process that loads the package by `torch`, predicts and does nothing else."""

    load_seconds: float
    peak_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 where every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(SUBJECTS), default="bert-base")
    parser.add_argument(
        "--package", type=Path, help="of its geometry; built with random weights if absent"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15, help="predictions of each case")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure-memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.measure_memory:
        print(json.dumps(asdict(_memory_here(SUBJECTS[args.model], args.package))))
        return 0
    with tempfile.TemporaryDirectory(prefix="gena-benchmark-") as scratch:
        subject = SUBJECTS[args.model]
        package = args.package or _build(subject, Path(scratch) / "model.mlpackage")
        memory = _memory_of_child(args.model, package, args.threads)
        bare = BareProducts()
        rows = _compare(args.model, package, args.rounds, args.threads, bare)
    if args.json:
        rows_as_facts = [asdict(row) for row in rows]
        facts = {"memory": asdict(memory), "best_gflops": bare.best, "rows": rows_as_facts}
        print(json.dumps(facts))
    else:
        _print_table(args.model, rows, memory, bare.best, args.threads)
    return 0 if not _missed(subject, rows, memory) else 1


class BareProducts:
    """The fp32 product that PyTorch computes fastest here, and nothing else.

    Attributes:
        best: GFLOP/s at the best moment when it was chosen.
    """

    def __init__(self) -> None:
        self.best = 0.0
        for rows in (512, 2048):
            x, weight, bias = torch.randn(rows, 768), torch.randn(3072, 768), torch.zeros(3072)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            pointwise = torch.ops.mkldnn._linear_pointwise
            self._try(partial(torch.nn.functional.linear, x, weight, bias), rows)
            self._try(partial(pointwise, x, packed, bias, "none", [], ""), rows)

    def _try(self, product: Callable[[], object], rows: int) -> None:
        gflop = 2e-9 * rows * 768 * 3072
        with torch.inference_mode():
            rate = gflop / min(_seconds(product) for _ in range(30))
        if rate > self.best:
            self.best, self._product, self._gflop = rate, product, gflop

    @torch.inference_mode()
    def seconds(self, gflop: float) -> float:
        """For so many operations in one go."""
        count = max(1, round(gflop / self._gflop))
        return sum(_seconds(self._product) for _ in range(count)) * gflop / (count * self._gflop)


def _build(subject: Subject, package: Path) -> Path:
    torch.manual_seed(0)
    encoder = family_of(subject.config).encoder(subject.config).eval().requires_grad_(False)
    build_package(encoder, BuildOptions(), PackagePlan(), package, lengths=subject.lengths)
    return package


def _interface(subject: Subject) -> PackageInterface:
    return PackageInterface(subject.config, function_names(subject.lengths))


def _memory_of_child(model: str, package: Path, threads: int) -> Memory:
    command = [sys.executable, "-m", "benchmarks.runtime", "--measure-memory", "--model", model]
    command += ["--package", str(package), "--threads", str(threads)]
    with told_as_served():
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    return Memory(**json.loads(result.stdout))


def _memory_here(subject: Subject, package: Path) -> Memory:
    started = time.perf_counter()
    encoder = PackedEncoder.of_package(package, _interface(subject))
    loaded = time.perf_counter() - started
    SpareMemory()
    for length in subject.lengths:
        encoder.predict(list(_ids(1, length)))
    return Memory(loaded, peak_memory_mib())


@contextmanager
def _packed(model: str, package: Path, threads: int) -> Iterator[Timed]:
    """`torch`, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with told_as_served():
        pool = context.Pool(1, _load_packed, (model, package, threads))
        pool.apply(_predict_packed, (_ids(1, 2),))
    with pool:
        yield lambda ids: float(pool.apply(_predict_packed, (ids,)))


_loaded: list[PackedEncoder] = []


def _load_packed(model: str, package: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    _loaded.append(PackedEncoder.of_package(package, _interface(SUBJECTS[model])))
    SpareMemory()


def _predict_packed(ids: NDArray[np.int32]) -> float:
    """As many windows at a time as the service hands over."""
    together = max(1, CPU_BATCH_TOKENS // ids.shape[1])
    batches = [list(ids[first : first + together]) for first in range(0, len(ids), together)]
    return _seconds(lambda: [_loaded[0].predict(batch) for batch in batches])


def _compare(model: str, package: Path, rounds: int, threads: int, bare: BareProducts) -> list[Row]:
    subject = SUBJECTS[model]
    peers: dict[str, Peer] = {
        "mil": _executed(subject, package),
        **dict(installed_peers(subject.peer(), threads)),
    }
    with _packed(model, package, threads) as packed:
        engines: dict[str, Timed] = {
            "torch": packed,
            **{name: partial(_seconds, peer) for name, peer in peers.items()},
            "products": lambda ids: bare.seconds(subject.gflop(*ids.shape)),
        }
        return _rows(subject, engines, rounds, bare.best)


def _rows(subject: Subject, engines: Mapping[str, Timed], rounds: int, best: float) -> list[Row]:
    rows = []
    for (windows, tokens), limit in subject.cases.items():
        ids = _ids(windows, tokens)
        # The package's own program is for single windows at its lengths.
        is_own = windows == 1 and tokens in subject.lengths
        names = [name for name in engines if name != "mil" or is_own]
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range((rounds if windows == 1 else max(3, rounds // 4)) + 2):
            for name in names:
                # The threads of whoever was before spin for a while, and would take a core.
                time.sleep(_SETTLE_SECONDS)
                times[name].append(engines[name](ids))
        # The first ones warm caches and threads.
        medians = {name: statistics.median(each[2:]) for name, each in times.items()}
        rows.append(
            Row(
                windows,
                tokens,
                {name: 1e3 * seconds for name, seconds in medians.items()},
                ratio=medians["torch"] / medians["transformers"],
                limit=limit,
                share=medians["products"] / medians["torch"],
                share_of_best=subject.gflop(windows, tokens) / medians["torch"] / best,
            )
        )
    return rows


def _executed(subject: Subject, package: Path) -> Peer:
    executor, interface = PackageExecutor(package), _interface(subject)
    return lambda ids: executor.predict(interface.inputs(ids), interface.function(ids.shape[1]))


def _ids(windows: int, tokens: int) -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(5, 32000, (windows, tokens)).astype(np.int32)


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _missed(subject: Subject, rows: Sequence[Row], memory: Memory) -> list[str]:
    missed = [
        f"{row.windows} x {row.tokens}: ratio {row.ratio:.2f}, at most {row.limit}"
        for row in rows
        if row.limit is not None and row.ratio > row.limit
    ]
    for row in rows:
        mil = row.milliseconds.get("mil", 0.0) / row.milliseconds["transformers"]
        if mil > subject.max_mil_ratio:
            missed.append(f"mil at {row.tokens}: ratio {mil:.2f}, at most {subject.max_mil_ratio}")
    longest = next(row for row in rows if row.tokens == subject.lengths[-1])
    if longest.share < subject.min_share:
        missed.append(
            f"share of the peak at {longest.tokens}: {longest.share:.0%}, "
            f"at least {subject.min_share:.0%}"
        )
    if memory.peak_mib > MAX_PEAK_MIB:
        missed.append(f"peak memory {memory.peak_mib:.0f} MiB, at most {MAX_PEAK_MIB}")
    return missed


def _print_table(
    model: str, rows: Sequence[Row], memory: Memory, best: float, threads: int
) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.milliseconds))
    print(
        f"{model}, fp32, {threads} threads; ms; ratio of torch to transformers; share of products"
    )
    print(f"beside torch, and of their best moment, {best:.0f} GFLOP/s")
    columns = "".join(f"{name:>13}" for name in names)
    print(f" windows x tokens {columns}  ratio  limit  share   best")
    for row in rows:
        times = "".join(
            f"{row.milliseconds[name]:>13.1f}" if name in row.milliseconds else f"{'':>13}"
            for name in names
        )
        limit = "" if row.limit is None else f"{row.limit:.2f}"
        what = f"{row.windows:>8} x {row.tokens:<6} "
        shares = f"{row.share:>6.0%} {row.share_of_best:>6.0%}"
        print(f"{what}{times}  {row.ratio:>5.2f} {limit:>6} {shares}")
    print(f"torch loads in {memory.load_seconds:.1f} s, peak memory {memory.peak_mib:.0f} MiB")
    for each in _missed(SUBJECTS[model], rows, memory):
        print(f"MISSED {each}")


if __name__ == "__main__":
    sys.exit(main())
