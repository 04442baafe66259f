"""Core ML as the converter sees it, on any machine: packages are executed operation by operation.

`GENA_TEST_COREML` is a JSON object: compute units -> misbehaviour ("crash", "hang", "stuck",
"garbage", "noise", "turned", "nan", "fail", "slow", "placement"), besides "machine", "os_build",
"os_version", "compile", the error of compilations, "log", a file that gets a line for each
compilation and each load, and "memory", a folder for results: whoever finds one there need not
import torch.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.fidelity.golden import Golden
from converter.runtime.coreml_library import Arrays, LoadedModel, System

SLOW_SECONDS = 0.1
_FOR_EVER = 600  # longer than any test waits


def behaviour() -> dict[str, Any]:
    return dict(json.loads(os.environ.get("GENA_TEST_COREML", "{}")))


def note(line: str) -> None:
    if log := behaviour().get("log"):
        with Path(log).open("a") as file:
            file.write(line + "\n")


def system() -> System:
    wanted = behaviour()
    version = wanted.get("os_version", [15, 5])
    return System(
        wanted.get("machine", "Mac16,1, Apple M4"),
        wanted.get("os_build", "24F74"),
        (int(version[0]), int(version[1])),
    )


def keep_frameworks_out() -> None:
    """It needs torch itself."""
    note("frameworks are kept out")


def compile_package(package: Path, compiled: Path) -> None:
    note("compile")
    if error := behaviour().get("compile"):
        raise RuntimeError(error)
    shutil.copytree(package, compiled)


def load(compiled: Path, compute_units: str, function: str | None) -> LoadedModel:
    if not list(compiled.rglob("weight.bin")):  # in the words of a Mac
        raise RuntimeError(
            '{\n    NSLocalizedDescription = "Error parsing MIL model: Could not open '
            '/private/var/x/weights/weight.bin";\n    NSUnderlyingError = "Error Domain='
            'com.apple.CoreML Code=110 \\"(null)\\"";\n}'
        )
    note(f"load {compute_units} {function}")
    return _Model(compiled, function, behaviour().get(compute_units))


def placement(compiled: Path, compute_units: str, function: str | None) -> dict[str, int] | None:
    assert compiled.is_dir()
    assert function is not None
    if behaviour().get(compute_units) == "placement":
        ctypes.PyDLL(None).sleep(_FOR_EVER)
    if compute_units == "ALL":
        raise RuntimeError("no compute plan")
    return {"NeuralEngine": 40, "CPU": 3} if compute_units == "CPU_AND_NE" else {"CPU": 43}


def remember(bundle: Bundle) -> None:
    """Compute all that a check of a bundle asks for: no process of a check imports torch then."""
    package = bundle.interface
    golden = Golden.load(bundle.golden(), bundle.manifest.pad_token_id)
    for length in bundle.manifest.lengths:
        model = load(bundle.package, "CPU_ONLY", package.core_ml_function(length))
        fitting = [i for i in range(len(golden.names)) if golden.n_tokens(i) <= length]
        windows = [golden.input_ids[i : i + 1, :length] for i in fitting]
        for window in (*windows, package.empty_window(length)):
            model.predict(package.inputs(np.ascontiguousarray(window)))


class _Model:
    def __init__(self, compiled: Path, function: str | None, misbehaviour: str | None) -> None:
        self._compiled = compiled
        self._function = function
        self._misbehaviour = misbehaviour

    def predict(self, inputs: Arrays) -> Arrays:
        print("Core ML says something on standard output", end="", flush=True)
        if self._misbehaviour == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._misbehaviour == "hang":
            note(f"hang {os.getpid()}")
            threading.Event().wait(_FOR_EVER)
        if self._misbehaviour == "stuck":  # as Core ML is: with the GIL
            note(f"hang {os.getpid()}")
            ctypes.PyDLL(None).sleep(_FOR_EVER)
        if self._misbehaviour == "fail":
            raise RuntimeError("Unable to compute the prediction")
        if self._misbehaviour == "slow":
            time.sleep(SLOW_SECONDS)
        features = self._compute(inputs)
        generator = np.random.default_rng(0)
        noise = generator.standard_normal(features.shape, np.float32) * np.abs(features).max()
        if self._misbehaviour == "garbage":
            features = noise
        if self._misbehaviour in ("noise", "turned"):  # about 45 dB: usable, with a flag
            features = features + noise * 10 ** (-45 / 20)
        if self._misbehaviour == "turned":  # and one token by some degrees: not usable
            features[0, 1] += 0.1 * np.roll(features[0, 1], 1)
        if self._misbehaviour == "nan":
            features = np.full_like(features, np.nan)
        return {"features": features}

    def _compute(self, inputs: Arrays) -> NDArray[np.float32]:
        key = hashlib.sha256(str(self._function).encode())
        for name in sorted(inputs):
            key.update(inputs[name].tobytes())
        remembered = Path(behaviour()["memory"]) / f"{key.hexdigest()}.npy"
        if not remembered.is_file():
            from converter.mil.executor import PackageExecutor

            outputs = PackageExecutor(self._compiled).predict(inputs, self._function)
            np.save(remembered, outputs["features"])
        features: NDArray[np.float32] = np.load(remembered)
        return features
