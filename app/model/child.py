"""The process that holds the model: windows in, features out, one at a time.

Started by `app.model.process`, with which it talks as `app.model.wire` says. It ends when its
stdin closes.
"""

import argparse
import json
import logging
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.model.wire import REPLY, REQUEST, SLOTS, LoadedRuntime
from converter.bundle.opening import Bundle, open_expected, undisturbed
from converter.errors import GenaError
from converter.life_line import when_parent_ends
from converter.runtime.loading import load_runtime
from converter.runtime.protocol import Runtime

logger = logging.getLogger("gena.model")


def _parse_arguments() -> argparse.Namespace:
    """The command line that `app.model.process` writes."""
    parser = argparse.ArgumentParser(prog="app.model.child")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--compute-units", required=True)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


Load = Callable[[Bundle, argparse.Namespace], Runtime]


def _load_runtime(bundle: Bundle, arguments: argparse.Namespace) -> Runtime:
    return load_runtime(
        bundle,
        compute_units=arguments.compute_units,
        threads=arguments.threads,
        runtime=arguments.runtime,
    )


def _warm_runtime(load: Load, arguments: argparse.Namespace) -> Runtime:
    """The runtime of the bundle that the server knows, and of no other, warmed up.

    Raises:
        BundleReplacedError: another one lies there by now.
    """
    with undisturbed(arguments.bundle):
        runtime = load(open_expected(arguments.bundle, arguments.fingerprint), arguments)
        runtime.warm_up()
        # Its files were compared with the manifest before they were read: they still are the same.
        open_expected(arguments.bundle, arguments.fingerprint)
    return runtime


def main(load: Load = _load_runtime) -> int:
    """Load the model, say so, answer until the server goes away.

    Args:
        load: makes the runtime of a bundle; tests give their own.

    Returns:
        The exit code: 1 where the model cannot be loaded.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Also out of a prediction that hangs; nothing here needs an orderly end.
    when_parent_ends(lambda: os._exit(0))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = _parse_arguments()
    channel = socket.socket(fileno=arguments.socket)
    try:
        runtime = _warm_runtime(load, arguments)
    except GenaError as error:
        _reply(channel, failed={"code": error.code, "message": str(error)})
        return 1
    except Exception as error:
        logger.exception("the model cannot be loaded")
        text = f"{type(error).__name__}: {error}"
        _reply(channel, failed={"code": "model.load", "message": text})
        return 1
    loaded = LoadedRuntime(
        runtime.name, runtime.compute_units, runtime.lengths, runtime.device_checks
    )
    _reply(channel, runtime=asdict(loaded))
    with mmap.mmap(arguments.memory, 0) as memory:
        _answer(channel, memory, runtime)
    return 0


def _answer(channel: socket.socket, memory: mmap.mmap, runtime: Runtime) -> None:
    stream = channel.makefile("rb")
    slot_bytes = len(memory) // SLOTS
    while len(header := stream.read(REQUEST.size)) == REQUEST.size:
        number, slot, count = REQUEST.unpack(header)
        padded = np.array(np.frombuffer(stream.read(4 * count), dtype=np.int32)[None, :])
        started = time.perf_counter()
        try:
            features = runtime.predict(padded)[0]
        except GenaError as error:
            _reply(channel, number=number, error=error.code, message=str(error))
            continue
        except Exception as error:
            logger.exception("a prediction failed")
            _reply(channel, number=number, error="model.error", message=type(error).__name__)
            continue
        seconds = time.perf_counter() - started
        target = np.frombuffer(memory, np.float32, features.size, slot * slot_bytes)
        target.reshape(features.shape)[...] = features
        del target  # the map cannot be closed while an array looks at it
        _reply(channel, number=number, shape=list(features.shape), seconds=seconds)


def _reply(channel: socket.socket, **message: Any) -> None:
    data = json.dumps(message).encode()
    channel.sendall(REPLY.pack(len(data)) + data)


if __name__ == "__main__":
    sys.exit(main())
