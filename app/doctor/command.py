"""`gena doctor`: the whole product tried on this machine."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.doctor.examination import STEPS, examine
from app.doctor.recording import Recorder
from app.doctor.redaction import of_this_machine
from app.doctor.report import Report
from app.doctor.visit import SMALL_MODEL, Visit
from app.host.awake import kept_awake
from converter.errors import GenaError
from converter.interrupts import Interrupted, ignore_interrupts, lasting_interrupts
from converter.paths import existing_folder, user_path
from converter.runtime import coreml_library
from converter.runtime.compiled_models import default_cache
from converter.versions import own_version

_STAND_IN = "converter.runtime.coreml_stand_in"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `gena doctor` takes."""
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("gena-report.md"),
        metavar="FILE",
        help="the page; the same as JSON goes beside it (default: gena-report.md)",
    )
    parser.add_argument(
        "--model", metavar="ID_OR_FOLDER", help=f"a checkpoint to try beside {SMALL_MODEL}"
    )
    parser.add_argument(
        "--load-seconds", type=float, default=600.0, metavar="S", help="of load (default: 600)"
    )
    parser.add_argument(
        "--repeats", type=int, default=50, metavar="N", help="predictions to time (default: 50)"
    )
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=[step.name for step in STEPS],
        help="leave a step out; may be given several times",
    )


def run(arguments: argparse.Namespace) -> int:
    """The command; 0 where nothing failed, 1 where something did."""
    file = user_path(arguments.report)
    if file.suffix != ".md":
        raise GenaError(f"--report {file.name}: the name of a page ends in .md.")
    given = existing_folder(arguments.model) if arguments.model else None
    # OpenMP threads that spin while they wait would slow the stand-in several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folders = [file.absolute().parent, Path.cwd(), *([given] if given else [])]
    status = 0
    with (
        lasting_interrupts() as require_none,
        tempfile.TemporaryDirectory(prefix="gena-doctor-", ignore_cleanup_errors=True) as scratch,
    ):
        temporary = (Path(scratch), Path(tempfile.gettempdir()))
        redaction = of_this_machine((*folders, *temporary), [given.name] if given else [])
        os.environ["TMPDIR"] = scratch  # what libraries leave in there goes as well
        recorder = Recorder(file, redaction, _empty_report(), require_none)
        visit = _visit(arguments, Path(scratch), recorder)
        recorder.start()
        try:
            with kept_awake(), _without_new_compiled_models(visit):
                examine(visit, recorder.report, recorder, skip=arguments.skip)
        except KeyboardInterrupt as interrupt:
            ignore_interrupts()  # what follows is short, and tidies up
            code = interrupt.status if isinstance(interrupt, Interrupted) else 128 + signal.SIGINT
            status = code
    recorder.finish()
    return status or (0 if recorder.report.well else 1)


def _empty_report() -> Report:
    began = datetime.now(UTC).isoformat(" ", timespec="minutes")[:16]
    return Report(version=own_version(), began=began, on_a_mac=sys.platform == "darwin")


def _visit(arguments: argparse.Namespace, scratch: Path, recorder: Recorder) -> Visit:
    on_a_mac = recorder.report.on_a_mac
    return Visit(
        scratch=scratch,
        library=coreml_library.LIBRARY if on_a_mac else _STAND_IN,
        on_a_mac=on_a_mac,
        models=tuple(dict.fromkeys((SMALL_MODEL, arguments.model or SMALL_MODEL))),
        repeats=max(1, arguments.repeats),
        load_seconds=arguments.load_seconds,
        say=recorder.say,
    )


@contextmanager
def _without_new_compiled_models(visit: Visit) -> Iterator[None]:
    """What the service compiles goes into this user's cache; what was not there before goes."""
    cache = default_cache()
    before = set(cache.glob("*"))
    try:
        yield
    finally:
        for bundle in visit.bundles.values():
            for folder in set(cache.glob(f"{bundle.manifest.fingerprint}*")) - before:
                if folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    folder.unlink(missing_ok=True)
