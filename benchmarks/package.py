"""Figures of the package: graph, fidelity, cost of the conversion. Prints Markdown tables.

    python -m benchmarks.package [--work FOLDER] [--quick] [--tokenizer FILE]

Every bundle is built by `python -m converter convert` in a process of its own, from checkpoints
of seeded random weights with outlier channels, from gena-mini, and from AntiBERTy, a trained BERT
(whose wheel is fetched from PyPI; without it the row says why). Graphs are compared in one run, the
optimised ones against `--layout published`. The last table says where the seconds go, and what
a plain script takes (`benchmarks.plain_conversion`).
"""

import argparse
import json
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
from converter.package.engine import EngineShare
from converter.package.inspection import PackageReport, inspect_package
from tools.antiberty import WheelUnavailableError, antiberty_checkpoint
from tools.seeded_checkpoints import BERT_BASE, make_checkpoint
from tools.seeded_moderngena import MODERNGENA_BASE, MODERNGENA_LARGE, make_moderngena

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
class Cost:
    """What a process took.

    Attributes:
        seconds: wall time.
        cpu_seconds: of all its threads.
        peak_gib: resident memory.
    """

    seconds: float
    cpu_seconds: float
    peak_gib: float


@dataclass(frozen=True)
class Build:
    """A finished conversion.

    Attributes:
        stages: wall time by stage, from the start of the process; "start" is until the first.
    """

    bundle: Path
    stages: dict[str, float]
    cost: Cost

    @property
    def manifest(self) -> Manifest:
        return open_bundle(self.bundle).manifest

    @property
    def report(self) -> PackageReport:
        """What `gena inspect` says."""
        return inspect_package(self.bundle / PACKAGE)


def build(checkpoint: Path | str, bundle: Path, *options: str) -> Build:
    """Convert in a child process; raises CalledProcessError if it refuses."""
    command = [sys.executable, "-m", "converter", "convert", "--progress", "json"]
    command += ["--model", str(checkpoint), "--output", str(bundle), *options]
    print(
        "  " + " ".join(["convert", Path(checkpoint).name, *options]), file=sys.stderr, flush=True
    )
    stages: dict[str, float] = {}
    began = since = time.perf_counter()
    stage = "start"
    # With its standard input open: where that closes, a conversion ends.
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - since
        stage, since = json.loads(line).get("stage", stage), now
    cost = _cost(process, command, began)
    stages[stage] = stages.get(stage, 0.0) + time.perf_counter() - since
    return Build(bundle, stages, cost)


def convert_plainly(checkpoint: Path, package: Path) -> Cost:
    """By the reference script, in a child process."""
    command = [sys.executable, "-m", "benchmarks.plain_conversion", str(checkpoint), str(package)]
    print(f"  plain conversion of {checkpoint.name}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    return _cost(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL), command, began)


def _cost(process: subprocess.Popen[bytes], command: list[str], began: float) -> Cost:
    """Wait for a process; raises CalledProcessError if it fails."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    seconds, cpu_seconds = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu_seconds, usage.ru_maxrss * unit / 2**30)


def graph_table(builds: dict[str, Build], tokens: int = 512) -> str:
    """Graphs at so many tokens, each against the first."""
    rows = [
        f"| graph at {tokens} tokens | operations | segments | findings in the encoder "
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
    """Gates in dB, the worst over all windows and lengths; and what the precision costs."""
    rows = [
        "| checkpoint | precision | re-authored | fp32 arithmetic | fp16 operations "
        "| norms in fp16 | verdict | segments | encoder operations off the engine "
        "| arithmetic off it |",
        "|---|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    for name, built in builds.items():
        manifest = built.manifest
        found = manifest.fidelity
        gates = [
            "equal" if gate["psnr_db"] is None else f"{gate['psnr_db']:.1f}"
            for gate in found["gates"][:3]
        ]
        norms = found["half_norms"]["psnr_db"]
        share = EngineShare(**found["engine"])
        rows.append(
            f"| {name} | {_precision(manifest)} | {' | '.join(gates)} "
            f"| {'not finite' if norms is None else f'{norms:.1f}'} | {found['flag']} "
            f"| {share.segments} | {share.encoder_operations_off} of {share.operations} "
            f"| {share.floating_point_operations_off / share.floating_point_operations:.1%} |"
        )
    return "\n".join(rows)


def _precision(manifest: Manifest) -> str:
    """The choice, with what else it needed."""
    precision = manifest.precision
    parts = [precision["chosen"], *precision["cures"]]
    if precision["chosen"] in ("prefix", "mixed"):
        parts.append(f"{len(precision['fp32_modules'])} parts in fp32")
    return ", ".join(parts)


def time_table(builds: dict[str, Build], plain: Cost) -> str:
    """Where the wall time of each conversion went, and what it took in all.

    Args:
        plain: of the reference script, with the first one's checkpoint.
    """
    stages = ("start", "fetch", "read", "convert", "verify", "publish")
    rows = [
        f"| conversion | lengths | {' | '.join(stages)} | s in all | CPU s | GiB |",
        "|---|---|" + "--:|" * (len(stages) + 3),
    ]
    for name, built in builds.items():
        lengths = ", ".join(map(str, built.manifest.lengths))
        times = " | ".join(f"{built.stages.get(stage, 0.0):.1f}" for stage in stages)
        rows.append(f"| {name} | {lengths} | {times} | {_figures(built.cost)} |")
    first = next(iter(builds.values()))
    window = max(first.manifest.lengths)
    rows.append(
        f"| a plain script, not verified | {window} |{' |' * len(stages)} {_figures(plain)} |"
    )
    time_ratio = first.cost.seconds / plain.seconds
    memory_ratio = first.cost.peak_gib / plain.peak_gib
    rows.append(
        f"\nThe first over the plain script: time {time_ratio:.2f}, memory {memory_ratio:.2f}."
    )
    return "\n".join(rows)


def _figures(cost: Cost) -> str:
    return f"{cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.peak_gib:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="keep checkpoints and bundles here")
    parser.add_argument("--quick", action="store_true", help="2 layers instead of 12 and 24")
    parser.add_argument(
        "--tokenizer", type=Path, help="a tokenizer.json of at most 32,000 tokens, as GENA-LM's"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        layers = {"num_hidden_layers": 2} if args.quick else {}
        run(args.work or Path(scratch), args.tokenizer, layers)


def run(work: Path, tokenizer: Path | None, changes: dict[str, Any]) -> None:
    """Build everything in `work` and print the tables."""

    def seeded(name: str, outliers: float, geometry: dict[str, Any]) -> Path:
        settings = {**geometry, **changes}
        return make_checkpoint(work / name, outliers=outliers, tokenizer_file=tokenizer, **settings)

    base = seeded("base-x3", 3, BERT_BASE)
    one = ("--target", "macos14")
    plain = convert_plainly(base, work / "plain.mlpackage")
    all_lengths = build(base, work / "base-x3-all")
    graphs = {
        "`--layout published`": build(base, work / "published", *one, "--layout", "published"),
        "optimised (default)": build(base, work / "optimised", *one),
        "`--ffn-chunks 4`": build(base, work / "chunks", *one, "--ffn-chunks", "4"),
        "`--embedding host`": build(base, work / "host", *one, "--embedding", "host"),
        "default, all lengths": all_lengths,
    }
    print(graph_table(graphs), end="\n\n", flush=True)
    twenty = seeded("base-x20", 20, BERT_BASE)
    post = seeded("base-post-x3", 3, {**BERT_BASE, "pre_layer_norm": False})
    large = seeded("large-x3", 3, BERT_LARGE)
    fidelity = {
        "bert-base geometry, x3 outliers": all_lengths,
        "the same as published": graphs["`--layout published`"],
        "the same, 4 chunks": graphs["`--ffn-chunks 4`"],
        "the same, embedding on the host": graphs["`--embedding host`"],
        "bert-base geometry, x20 outliers": build(twenty, work / "base-x20-all"),
        "the same, `--precision mixed`": build(
            twenty, work / "base-x20-mixed", *one, "--precision", "mixed"
        ),
        "bert-base geometry, post-LN, x3 outliers": build(post, work / "base-post-all"),
        "gena-mini": build("gena-mini", work / "gena-mini-all"),
        "bert-large geometry, x3 outliers": build(large, work / "large-all"),
    }
    fidelity |= {
        f"bert-base x3, {weights}": build(base, work / weights, *one, "--weights", weights)
        for weights in ("int8", "palettized6")
    }
    try:
        checkpoint = antiberty_checkpoint(work / "antiberty", tokenizer)
        fidelity["AntiBERTy (8 x 512, trained)"] = build(checkpoint, work / "antiberty-all")
    except WheelUnavailableError as why:
        print(f"AntiBERTy is left out: {why}.", end="\n\n")
    fidelity |= _moderngena(work, tokenizer, changes)
    print(fidelity_table(fidelity), end="\n\n", flush=True)
    print(time_table(fidelity, plain))


def _moderngena(work: Path, tokenizer: Path | None, changes: dict[str, Any]) -> dict[str, Build]:
    """Print the graphs of its base geometry; both sizes for the other tables."""
    builds = {}
    for size, geometry in (("base", MODERNGENA_BASE), ("large", MODERNGENA_LARGE)):
        checkpoint = make_moderngena(
            work / f"moderngena-{size}",
            outliers=3,
            tokenizer_file=tokenizer,
            **{**geometry, **changes},
        )
        name = f"moderngena-{size} geometry, x3 outliers"
        builds[name] = build(checkpoint, work / f"moderngena-{size}-all")
        if size == "base":
            one = ("--target", "macos14", "--layout", "published")
            graphs = {
                "modernGENA, `--layout published`": build(checkpoint, work / "published-mg", *one),
                "modernGENA, default, all lengths": builds[name],
            }
            print(graph_table(graphs, 1024), end="\n\n", flush=True)
    return builds


if __name__ == "__main__":
    main()
