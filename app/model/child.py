"""The process that holds the model: windows in, features out, one batch at a time.

Started by `app.model.process`, with which it talks as `app.model.wire` says. It ends when its
stdin closes.
"""

import argparse
import logging
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from app.model.performance import SpareMemory
from app.model.prediction import Rows, WindowIds
from app.model.wire import (
    REQUEST,
    SLOTS,
    Failure,
    GaveUp,
    LoadedRuntime,
    Loading,
    NotLoaded,
    Predicted,
    encode_reply,
    read_windows,
)
from converter.bundle.opening import Bundle, open_expected, undisturbed
from converter.errors import GenaError, is_full_disk
from converter.life_line import when_parent_ends
from converter.pooling import WindowPooling, count_answered
from converter.runtime.loading import load_runtime
from converter.runtime.protocol import Circumstances, Runtime

logger = logging.getLogger("gena.model")

_LONGEST_MESSAGE = 2000
_UNEXPECTED = "model.error"
# After so many requests in a row that failed as a whole, the model is loaded anew: an error of a
# CUDA device stays until the process ends, and what Core ML loaded may not outlive a Mac's sleep.
_FAILURES_IN_A_ROW = 3


def _parse_arguments() -> argparse.Namespace:
    """The command line that `app.model.process` writes."""
    parser = argparse.ArgumentParser(prog="app.model.child")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--compute-units", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--compute", required=True)
    parser.add_argument("--batch-tokens", type=int, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--step-seconds", type=float, required=True)
    parser.add_argument("--predict-seconds", type=float, required=True)
    return parser.parse_args()


OnStep = Callable[[str], None]
Load = Callable[[Bundle, argparse.Namespace, OnStep], Runtime]


def _load_runtime(bundle: Bundle, arguments: argparse.Namespace, on_step: OnStep) -> Runtime:
    return load_runtime(
        bundle,
        compute_units=arguments.compute_units,
        threads=arguments.threads,
        runtime=arguments.runtime,
        device=arguments.device,
        compute=arguments.compute,
        circumstances=Circumstances(
            alone=True,
            step_seconds=arguments.step_seconds,
            predict_seconds=arguments.predict_seconds,
            on_step=on_step,
        ),
    )


def _warm_runtime(load: Load, arguments: argparse.Namespace, on_step: OnStep) -> Runtime:
    """The runtime of the bundle that the server knows, and of no other, warmed up.

    Raises:
        BundleReplacedError: another one lies there by now.
    """
    with undisturbed(arguments.bundle):
        bundle = open_expected(arguments.bundle, arguments.fingerprint)
        runtime = load(bundle, arguments, on_step)
        runtime.warm_up()
    return runtime


def main(load: Load = _load_runtime) -> int:
    """Load the model, say so, answer until the server goes away.

    Args:
        load: makes the runtime of a bundle; tests give their own.

    Returns:
        The exit code: 1 where the model cannot be loaded, 3 where it gave nothing but errors.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Also out of a prediction that hangs; nothing here needs an orderly end.
    when_parent_ends(lambda: os._exit(0))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = _parse_arguments()
    channel = socket.socket(fileno=arguments.socket)
    try:
        runtime = _warm_runtime(
            load, arguments, lambda step: channel.sendall(encode_reply(Loading(step)))
        )
    except Exception as error:
        channel.sendall(encode_reply(_not_loaded(error)))
        return 1
    loaded = LoadedRuntime(
        runtime.name,
        runtime.compute_units,
        runtime.compute,
        runtime.lengths,
        min(runtime.batch_tokens, arguments.batch_tokens),
        runtime.device_checks,
    )
    spare = SpareMemory()
    channel.sendall(encode_reply(loaded))
    with mmap.mmap(arguments.memory, 0) as memory:
        return 0 if _answer(channel, memory, runtime, spare) else 3


def _not_loaded(error: Exception) -> NotLoaded:
    if isinstance(error, GenaError):
        return NotLoaded(error.code, str(error))
    if isinstance(error, OSError) and is_full_disk(error):
        where = error.filename or tempfile.gettempdir()
        return NotLoaded("disk.full", f"The model cannot be loaded: no space is left for {where}.")
    logger.exception("the model cannot be loaded")
    text = f"{type(error).__name__}: {error}"
    return NotLoaded("model.load", text[:_LONGEST_MESSAGE])


def _answer(
    channel: socket.socket, memory: mmap.mmap, runtime: Runtime, spare: SpareMemory
) -> bool:
    """Answer requests until the server goes away; False where the model only fails by now."""
    stream = channel.makefile("rb")
    slot_bytes = len(memory) // SLOTS
    failed = 0
    while len(header := stream.read(REQUEST.size)) == REQUEST.size:
        number, slot, count = REQUEST.unpack(header)
        windows, poolings = read_windows(stream, count)
        place = memoryview(memory)[slot * slot_bytes : (slot + 1) * slot_bytes]
        predicted = _predict(runtime, number, windows, poolings, place)
        channel.sendall(encode_reply(predicted))
        place.release()  # the map cannot be closed while somebody looks at it
        spare.limit()
        unexpected = [each for each in predicted.failures if each.code == _UNEXPECTED]
        failed = failed + 1 if len(unexpected) == count else 0
        if failed == _FAILURES_IN_A_ROW:
            channel.sendall(encode_reply(GaveUp("the model gave nothing but errors")))
            return False
    return True


def _predict(
    runtime: Runtime,
    number: int,
    windows: Sequence[WindowIds],
    poolings: Sequence[WindowPooling | None],
    place: memoryview,
) -> Predicted:
    """Predict windows of (n,) ids, and put what is wanted into its place, end to end."""
    started = time.perf_counter()
    results = _results(runtime, windows, poolings)
    seconds = time.perf_counter() - started
    counts = [
        count_answered(len(ids), wanted) for ids, wanted in zip(windows, poolings, strict=True)
    ]
    rows, hidden = sum(counts), _hidden_size(results)
    # A ValueError where they do not fit: the place beside it is another request's.
    target = np.frombuffer(place, np.float32, rows * hidden).reshape(rows, hidden)
    failures, row = [], 0
    for index, (count, result) in enumerate(zip(counts, results, strict=True)):
        if isinstance(result, Exception):
            failures.append(_failure(index, result))
        else:
            target[row : row + count] = result
        row += count
    return Predicted(number, (rows, hidden), seconds, failures)


def _results(
    runtime: Runtime, windows: Sequence[WindowIds], poolings: Sequence[WindowPooling | None]
) -> list[Rows | Exception]:
    """Of each window its features, or what it failed with.

    Those that failed together are tried one by one: most of them are well.
    """
    try:
        return list(runtime.predict(windows, poolings))
    except Exception as error:
        if len(windows) == 1:
            return [error]
        each = zip(windows, poolings, strict=True)
        return [result for ids, wanted in each for result in _results(runtime, [ids], [wanted])]


def _hidden_size(results: Sequence[Rows | Exception]) -> int:
    return next((result.shape[1] for result in results if not isinstance(result, Exception)), 0)


def _failure(window: int, error: Exception) -> Failure:
    if isinstance(error, GenaError):
        return Failure(window, error.code, str(error))
    logger.error("a prediction failed", exc_info=error)
    return Failure(window, _UNEXPECTED, type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
