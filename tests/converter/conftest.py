"""A small bundle, and a stand-in for Core ML that runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.bundle.opening import Bundle
from converter.conversion.toolchain import coremltools_quietly
from converter.runtime.tuned_choice import choice_file
from tests.support.bundles import build_small
from tests.support.paths import ROOT

# As the converter imports it: alone it brings transformers, scikit-learn and what trains networks,
# which is half of what each worker would import before the first test.
with coremltools_quietly():
    pass


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two layers, 128 and 512 tokens; built once a session."""
    return build_small(tmp_path_factory.mktemp("b") / "small")


@pytest.fixture
def bundle(small_bundle: Bundle) -> Bundle:
    """A small bundle that was not tuned."""
    choice_file(small_bundle).unlink(missing_ok=True)
    return small_bundle


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stand-in for Core ML computed before."""
    return tmp_path_factory.mktemp("memory")


@pytest.fixture
def behave(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell the stand-in, here and in child processes, how to behave."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def tell(**behaviour: Any) -> None:
        behaviour |= {"log": str(tmp_path / "log"), "memory": str(memory)}
        monkeypatch.setenv("GENA_TEST_COREML", json.dumps(behaviour))

    tell()
    return tell
