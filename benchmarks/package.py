"""Figures of the package: graph, fidelity, cost of the conversion. Prints Markdown tables.

    python -m benchmarks.package [--work FOLDER] [--quick]

Every bundle is built by `python -m converter convert` in a process of its own, from checkpoints
of seeded random weights with outlier channels (and from gena-mini); graphs are compared in one
run, the optimised ones against `--layout published`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.bundle.manifest import PACKAGE, Manifest
from converter.bundle.opening import open_bundle
from converter.package.inspection import PackageReport, inspect_package
from tools.seeded_checkpoints import BERT_BASE, make_checkpoint

ROOT = Path(__file__).resolve().parent.parent
BERT_LARGE = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-5,
    "last_layer_norm": True,
}
_MIB = 2**20


@dataclass(frozen=True)
class Build:
    """A finished conversion.

    Attributes:
        seconds: wall time; peak_gib: resident memory of the converting process.
    """

    bundle: Path
    seconds: float
    peak_gib: float

    @property
    def manifest(self) -> Manifest:
        return open_bundle(self.bundle).manifest

    @property
    def report(self) -> PackageReport:
        """What `gena inspect` says."""
        return inspect_package(self.bundle / PACKAGE)


def build(checkpoint: Path | str, bundle: Path, *options: str) -> Build:
    """Convert in a child process; raises CalledProcessError if it refuses."""
    command = [sys.executable, "-m", "converter", "convert", "--progress", "none"]
    command += ["--model", str(checkpoint), "--output", str(bundle), *options]
    print(
        "  " + " ".join(["convert", Path(checkpoint).name, *options]), file=sys.stderr, flush=True
    )
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Build(bundle, time.perf_counter() - start, usage.ru_maxrss * unit / 2**30)


def graph_table(builds: dict[str, Build]) -> str:
    """Graphs at 512 tokens, each against the first."""
    rows = [
        "| graph at 512 tokens | operations | segments | findings in the encoder "
        "| peak activations, MiB | ratio | GFLOP | disk, MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    baseline = 0
    for name, built in builds.items():
        report = built.report
        function = report.costliest
        peak = function.peak.bytes if function.peak else 0
        baseline = baseline or peak
        encoder = sum(finding.stage == "encoder" for finding in function.findings)
        rows.append(
            f"| {name} | {function.engine.operations} | {function.engine.segments} | {encoder} "
            f"| {peak / _MIB:.2f} | {peak / baseline:.2f} "
            f"| {sum(function.floating_point_operations.values()) / 1e9:.1f} "
            f"| {report.disk_bytes / _MIB:.0f} |"
        )
    return "\n".join(rows)


def fidelity_table(builds: dict[str, Build]) -> str:
    """Gates in dB, the worst over all windows and lengths; and what the conversion cost."""
    rows = [
        "| checkpoint | lengths | precision | re-authored | fp32 arithmetic | fp16 operations "
        "| lengths agree | verdict | s | GiB |",
        "|---|---|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for name, built in builds.items():
        manifest = built.manifest
        gates = [
            "equal" if gate["psnr_db"] is None else f"{gate['psnr_db']:.1f}"
            for gate in manifest.fidelity["gates"]
        ]
        in_fp32 = len(manifest.precision["fp32_operations"])
        chosen = manifest.precision["chosen"]
        chosen += f" ({in_fp32} parts in fp32)" if chosen == "mixed" else ""
        lengths = ", ".join(str(length) for length in manifest.lengths)
        rows.append(
            f"| {name} | {lengths} | {chosen} | {' | '.join(gates)} "
            f"| {manifest.fidelity['flag']} | {built.seconds:.0f} | {built.peak_gib:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="keep checkpoints and bundles here")
    parser.add_argument("--quick", action="store_true", help="2 layers instead of 12 and 24")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(args.work or Path(scratch), {"num_hidden_layers": 2} if args.quick else {})


def run(work: Path, changes: dict[str, Any]) -> None:
    """Build everything in `work` and print the tables."""
    base = make_checkpoint(work / "base-x3", outliers=3, **{**BERT_BASE, **changes})
    one = ("--target", "macos14")
    all_lengths = build(base, work / "base-x3-all")
    graphs = {
        "`--layout published`": build(base, work / "published", *one, "--layout", "published"),
        "optimised (default)": build(base, work / "optimised", *one),
        "`--ffn-chunks 4`": build(base, work / "chunks", *one, "--ffn-chunks", "4"),
        "`--embedding host`": build(base, work / "host", *one, "--embedding", "host"),
        "default, all lengths": all_lengths,
    }
    print(graph_table(graphs), end="\n\n", flush=True)
    compressed = {
        f"bert-base x3, {weights}": build(base, work / weights, *one, "--weights", weights)
        for weights in ("int8", "palettized6")
    }
    twenty = make_checkpoint(work / "base-x20", outliers=20, **{**BERT_BASE, **changes})
    large = make_checkpoint(work / "large-x3", outliers=3, **{**BERT_LARGE, **changes})
    fidelity = {
        "bert-base geometry, x3 outliers": all_lengths,
        "the same as published": graphs["`--layout published`"],
        "the same, 4 chunks": graphs["`--ffn-chunks 4`"],
        "the same, embedding on the host": graphs["`--embedding host`"],
        "bert-base geometry, x20 outliers": build(twenty, work / "base-x20-all"),
        "gena-mini": build("gena-mini", work / "gena-mini-all"),
        "bert-large geometry, x3 outliers": build(large, work / "large-all"),
        **compressed,
    }
    print(fidelity_table(fidelity))


if __name__ == "__main__":
    main()
