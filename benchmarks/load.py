"""Many clients at once: every request ends, memory stays flat, a short one passes a long one?

    python -m benchmarks.load [--bundle FOLDER] [--clients 64] [--seconds 60] [--upload 5000]

Starts a server of its own on a free loopback port, without `--bundle` with a tiny model of random
weights. The exit status is 1 where a promise is broken: an answer other than 200 or 429, a request
that hangs, memory that grows, a short request that waits for a long upload.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tools.load_client import LoadReport, UploadReport, load, short_during_upload
from tools.seeded_checkpoints import seeded_bundle
from tools.served import served


def _print_load(report: LoadReport, clients: int, seconds: float) -> None:
    taken = sorted(report.seconds)
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(report.statuses.items()))
    print(f"{clients} clients for {seconds:g} s: {statuses}; {len(report.failures)} failures")
    if taken:
        last = taken[min(len(taken) - 1, int(0.99 * len(taken)))]
        print(f"  seconds: median {median(taken):.3f}, 99 % {last:.3f}, longest {taken[-1]:.3f}")
    for name, growth in report.growth_mib.items():
        peak = report.peak_mib[name]
        print(f"  {name} process: peak {peak:.0f} MiB, last third {growth:+.1f} MiB on the second")


def _print_upload(report: UploadReport) -> None:
    waited = median(report.short_seconds)
    print(
        f"upload of {report.records} records: {report.upload_seconds or 0:.1f} s; beside it "
        f"{len(report.short_seconds)} short requests\n"
        f"  median {1000 * waited:.0f} ms, longest {1000 * max(report.short_seconds):.0f} ms, "
        f"alone {1000 * report.prediction_seconds:.0f} ms: "
        f"{waited / report.prediction_seconds:.1f} times"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and say what was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: a tiny model, built here")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--upload", type=int, default=5000, help="records of the upload")
    parser.add_argument(
        "--queue-tokens",
        default="16384",
        help="small by default (32 requests), so that some are refused",
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle
        if bundle is None:
            bundle = seeded_bundle(Path(folder) / "bundle")
        with served(bundle, GENA_QUEUE_TOKENS=arguments.queue_tokens) as server:
            upload = asyncio.run(short_during_upload(server, arguments.upload))
            _print_upload(upload)
            report = asyncio.run(load(server, arguments.clients, arguments.seconds))
            _print_load(report, arguments.clients, arguments.seconds)
    broken = [*upload.broken_promises(), *report.broken_promises()]
    for promise in broken[:20]:
        print(f"BROKEN: {promise}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
