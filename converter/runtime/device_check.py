"""Does this Mac compute the features with these compute units? Asked in a child process.

The first prediction of a model can crash or hang the process, or be quietly wrong: an engine
compilation failure shows in no other way. The child predicts the bundle's golden sequences and
compares them with the reference that lies in the bundle.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from converter.bundle.manifest import Manifest
from converter.bundle.opening import Bundle, open_bundle
from converter.errors import GenaError
from converter.fidelity.gates import (
    COMPRESSED_FP16_OPERATIONS,
    Figures,
    compare,
    on_device,
    worst,
)
from converter.fidelity.golden import Golden
from converter.life_line import when_parent_ends
from converter.measuring import peak_memory_mib, percentile
from converter.package.interface import OUTPUT
from converter.runtime.coreml_library import Arrays, CoreMLLibrary, LoadedModel, words_of
from converter.runtime.guarded_library import library_named
from converter.runtime.protocol import ANY_PROCESS, Circumstances

# Marks the child's answers among whatever Core ML prints.
_MARK = b"gena-device-check:"
_ROOT = Path(__file__).resolve().parents[2]

Outcome = Literal["expected", "flagged", "refused", "failed", "crashed", "hung"]


@dataclass(frozen=True)
class DeviceCheck:
    """What became of the first predictions with one choice of compute units.

    Attributes:
        outcome: "expected" and "flagged" passed the gate (see `gates.on_device`), "refused"
            did not; "failed": Core ML reported an error; "crashed": the process died; "hung": it
            was ended after a while.
        detail: a sentence for people.
        psnr_db: of the worst golden sequence; None where nothing could be compared.
        worst_cosine: of the worst token.
        milliseconds: length -> median of a prediction, where it was measured.
        placement: length -> operations by device, where it was asked for and is known: Core ML
            tells it of a package's default function only.
        p95_milliseconds: length -> what 95 of 100 predictions do not exceed.
        load_seconds: length -> time to load it: the first time, Core ML prepares it for the units.
        memory_mib: the most that the process had resident, Python and all.
    """

    compute_units: str
    outcome: Outcome
    detail: str
    psnr_db: float | None = None
    worst_cosine: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    placement: dict[str, dict[str, int]] = field(default_factory=dict)
    p95_milliseconds: dict[str, float] = field(default_factory=dict)
    load_seconds: dict[str, float] = field(default_factory=dict)
    memory_mib: float | None = None

    @property
    def usable(self) -> bool:
        return self.outcome in ("expected", "flagged")


def check_device(
    bundle: Path,
    compiled: Path,
    compute_units: str,
    *,
    library: str,
    lengths: Sequence[int] = (),
    repeats: int = 0,
    timeout: float = ANY_PROCESS.step_seconds,
) -> DeviceCheck:
    """Predict the golden sequences in a child process.

    Args:
        compiled: the bundle's package as a `.mlmodelc`.
        library: name of the module that is Core ML (see `CoreMLLibrary`).
        lengths: those of the package to try; all of them where none is named.
        repeats: predictions to time at every length; with any, the placement is asked for too.
    """
    command = [
        # -P: the working directory is the user's, and may hold a `converter` of its own.
        *(sys.executable, "-P", "-m", "converter.runtime.device_check"),
        *(f"--library={library}", f"--repeats={repeats}", f"--seconds={timeout}"),
        *(f"--length={length}" for length in lengths),
        # What follows is no option, whatever it begins with.
        *("--", str(bundle), str(compiled), compute_units),
    ]
    said, fault = _run(command, timeout)
    answers = [
        json.loads(line.removeprefix(_MARK)) for line in said.splitlines() if line.startswith(_MARK)
    ]
    if answers:
        # The placement comes last: a fault of it takes nothing away from the predictions.
        return DeviceCheck(**{key: value for answer in answers for key, value in answer.items()})
    return DeviceCheck(compute_units, *fault)


def _run(command: Sequence[str], timeout: float) -> tuple[bytes, tuple[Outcome, str]]:
    """Run the child; what it said, and what its silence would mean."""
    # It ends when this pipe closes, that is, at the latest, with this process.
    reading, writing = os.pipe()
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        child = subprocess.run(
            command, stdin=reading, capture_output=True, env=environment, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", ("hung", f"It gave no prediction in {timeout:g} s.")
    finally:
        os.close(reading)
        os.close(writing)
    return child.stdout, ("crashed", _epitaph(child.returncode, child.stderr))


def _epitaph(returncode: int, stderr: bytes) -> str:
    how = f"exit code {returncode}"
    if returncode < 0:
        how = signal.strsignal(-returncode) or f"signal {-returncode}"
    last = stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
    return f"The process died at its first prediction ({how}). {last[0][:200]}".strip()


def main(argv: list[str] | None = None) -> int:
    """The child: one line of JSON with the outcome, then one with the placement."""
    parser = argparse.ArgumentParser(prog="converter.runtime.device_check")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("compiled", type=Path)
    parser.add_argument("compute_units")
    parser.add_argument("--library", required=True)
    parser.add_argument("--length", type=int, action="append", dest="lengths")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args(argv)
    when_parent_ends(lambda: os._exit(1))
    # One that hangs in its first prediction has all the time that it was given.
    patience = Circumstances(step_seconds=arguments.seconds, predict_seconds=arguments.seconds)
    library = library_named(arguments.library, patience)
    library.keep_frameworks_out()
    compiled, units = arguments.compiled, arguments.compute_units
    try:
        bundle = open_bundle(arguments.bundle)
        lengths = arguments.lengths or bundle.manifest.lengths
        answer = _predictions(bundle, compiled, units, library, lengths, arguments.repeats)
    except Exception as error:  # whatever Core ML raises is the finding
        detail = f"{type(error).__name__}: {words_of(error)}"
        _say({"compute_units": units, "outcome": "failed", "detail": detail})
        return 0
    _say({"compute_units": units, **answer})
    if arguments.repeats and bundle.interface.default_length in lengths:
        _say({"placement": _placement(bundle, compiled, units, library)})
    return 0


def _say(answer: dict[str, Any]) -> None:
    # Core ML may have left a line unfinished.
    print(f"\n{_MARK.decode()}{json.dumps(answer)}", flush=True)


def _predictions(
    bundle: Bundle,
    compiled: Path,
    units: str,
    library: CoreMLLibrary,
    lengths: Sequence[int],
    repeats: int,
) -> dict[str, Any]:
    package = bundle.interface
    golden = Golden.load(bundle.golden(), bundle.manifest.pad_token_id)
    figures: dict[str, Figures] = {}
    load_seconds: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    for length in lengths:
        start = time.perf_counter()
        model = library.load(compiled, units, package.core_ml_function(length))
        load_seconds[str(length)] = round(time.perf_counter() - start, 3)
        for number in range(len(golden.names)):
            n_tokens = golden.n_tokens(number)
            if n_tokens > length:
                continue
            ids = np.ascontiguousarray(golden.input_ids[number : number + 1, :length])
            outputs = model.predict(package.inputs(ids))
            figures[f"sequence {number}, length {length}"] = compare(
                golden.reference[number, :n_tokens], np.asarray(outputs[OUTPUT])[0, :n_tokens]
            )
        if repeats:
            inputs = package.inputs(package.empty_window(length))
            times[str(length)] = sorted(_milliseconds(model, inputs) for _ in range(repeats))
    result = worst(on_device(_compressed_psnr(bundle.manifest)), figures)
    rounded = result.as_dict()
    return {
        "outcome": result.verdict,
        "detail": result.sentence(),
        "psnr_db": rounded["psnr_db"],
        "worst_cosine": rounded["worst_cosine"],
        "milliseconds": {key: round(statistics.median(each), 3) for key, each in times.items()},
        "p95_milliseconds": {key: round(percentile(each, 95), 3) for key, each in times.items()},
        "load_seconds": load_seconds,
        "memory_mib": round(peak_memory_mib(), 1),
    }


def _compressed_psnr(manifest: Manifest) -> float | None:
    """What the manifest says of a compressed package; of equal features nothing can be said."""
    if not manifest.options.compressed:
        return None
    found: float | None = next(
        gate["psnr_db"]
        for gate in manifest.fidelity["gates"]
        if gate["gate"] == COMPRESSED_FP16_OPERATIONS.name
    )
    return math.inf if found is None else found


def _milliseconds(model: LoadedModel, inputs: Arrays) -> float:
    start = time.perf_counter()
    model.predict(inputs)
    return 1000 * (time.perf_counter() - start)


def _placement(
    bundle: Bundle, compiled: Path, units: str, library: CoreMLLibrary
) -> dict[str, dict[str, int]]:
    length = bundle.interface.default_length
    try:
        counts = library.placement(compiled, units, bundle.interface.core_ml_function(length))
    except Exception:  # not every macOS has the interface, and nothing depends on it
        return {}
    return {str(length): counts} if counts else {}


if __name__ == "__main__":
    try:
        code = main()
    except GenaError as error:
        sys.exit(str(error))
    # Core ML's own threads may not end; the answer is out.
    sys.stdout.flush()
    os._exit(code)
