"""How fast the executor is: a bert-base package by `mil`, beside transformers' BertModel.

    python -m benchmarks.runtime [--package PATH] [--threads N] [--json]

Both run in this process, in turns, in fp32 with the same number of threads; the medians are
compared. Peak memory is that of a spawned process that only executes the package. The exit
status is 1 where a limit is exceeded.

Idle OpenMP threads sleep here instead of spinning: on a machine that others use too, spinning
slows both down severalfold, and by chance.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when PyTorch is loaded

import numpy as np
import torch
from numpy.typing import NDArray

from converter.conversion.build import PackagePlan, build_package
from converter.measuring import peak_memory_mib
from converter.mil.executor import PackageExecutor
from converter.network.config import EncoderConfig
from converter.network.reference import GenaEncoder
from converter.options import BuildOptions, function_names
from converter.package.interface import INPUT
from tools.seeded_checkpoints import BERT_BASE, config_dict

LENGTHS = (128, 512)
MAX_RATIO = 1.25
MAX_PEAK_MIB = 2048


@dataclass(frozen=True)
class Timing:
    """Medians of one prediction; CPU time sums over threads and does not see other processes."""

    length: int
    mil_ms: float
    transformers_ms: float
    ratio: float
    cpu_ratio: float


@dataclass(frozen=True)
class Memory:
    """Of a process that executes the package and does nothing else."""

    load_seconds: float
    peak_mib: float


def main() -> int:
    """Run the benchmark; 0 where every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--package", type=Path, help="of bert-base geometry; built with random weights if absent"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15, help="predictions at each length")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure-memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure_memory:
        print(json.dumps(asdict(_memory_here(args.package))))
        return 0
    with tempfile.TemporaryDirectory(prefix="gena-benchmark-") as scratch:
        package = args.package or _build(Path(scratch) / "model.mlpackage")
        memory = _memory_of_child(package, args.threads)
        timings = _compare(package, args.rounds)
    if args.json:
        print(json.dumps({"memory": asdict(memory), "timings": [asdict(t) for t in timings]}))
    else:
        _print_table(timings, memory, args.threads)
    kept = all(t.ratio <= MAX_RATIO for t in timings) and memory.peak_mib < MAX_PEAK_MIB
    return 0 if kept else 1


def _build(package: Path) -> Path:
    torch.manual_seed(0)
    encoder = GenaEncoder(EncoderConfig.from_dict(config_dict(**BERT_BASE))).eval()
    build_package(encoder, BuildOptions(), PackagePlan(), package, lengths=LENGTHS)
    return package


def _memory_of_child(package: Path, threads: int) -> Memory:
    command = [sys.executable, "-m", "benchmarks.runtime", "--measure-memory"]
    command += ["--package", str(package), "--threads", str(threads)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return Memory(**json.loads(result.stdout))


def _memory_here(package: Path) -> Memory:
    started = time.perf_counter()
    executor = PackageExecutor(package)
    loaded = time.perf_counter() - started
    for length in LENGTHS:
        _predict(executor, _ids(length))
    return Memory(loaded, peak_memory_mib())


def _compare(package: Path, rounds: int) -> list[Timing]:
    from transformers import BertConfig, BertModel

    executor = PackageExecutor(package)
    config = BertConfig(vocab_size=32000)
    bert: torch.nn.Module = BertModel(config, add_pooling_layer=False)
    bert.eval()
    if config._attn_implementation != "sdpa":
        raise SystemExit("transformers' BertModel does not use SDPA here")

    @torch.inference_mode()
    def reference(ids: NDArray[np.int32]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(ids).long()
        output = bert(tensor, attention_mask=torch.ones_like(tensor))
        states: NDArray[np.float32] = output.last_hidden_state.numpy()
        return states

    timings = []
    for length in LENGTHS:
        ids = _ids(length)
        mil, transformers = [], []
        for round_ in range(rounds + 2):
            mine, theirs = _timed(_predict, executor, ids), _timed(reference, ids)
            if round_ >= 2:  # the first ones warm caches and threads
                mil.append(mine)
                transformers.append(theirs)
        wall, cpu = (
            [statistics.median(t[kind] for t in times) for times in (mil, transformers)]
            for kind in (0, 1)
        )
        timings.append(
            Timing(length, wall[0] * 1e3, wall[1] * 1e3, wall[0] / wall[1], cpu[0] / cpu[1])
        )
    return timings


def _ids(length: int) -> NDArray[np.int32]:
    return np.random.default_rng(0).integers(5, 32000, (1, length)).astype(np.int32)


def _predict(executor: PackageExecutor, ids: NDArray[np.int32]) -> None:
    executor.predict({INPUT: ids}, function_names(LENGTHS)[ids.shape[1]])


def _timed(work: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def _print_table(timings: list[Timing], memory: Memory, threads: int) -> None:
    print(f"bert-base, fp32, {threads} threads; limits: ratio {MAX_RATIO}, {MAX_PEAK_MIB} MiB")
    print(f"{'tokens':>7} {'mil ms':>8} {'BertModel ms':>13} {'ratio':>6} {'CPU ratio':>10}")
    for t in timings:
        print(
            f"{t.length:>7} {t.mil_ms:>8.0f} {t.transformers_ms:>13.0f} "
            f"{t.ratio:>6.2f} {t.cpu_ratio:>10.2f}"
        )
    print(f"process: loads in {memory.load_seconds:.1f} s, peak memory {memory.peak_mib:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
