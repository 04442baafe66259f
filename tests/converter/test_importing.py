"""Imports without the collector, and coremltools without what is not used of it."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from converter.importing import large_imports
from tests.support.paths import ROOT

_COREMLTOOLS = """
import gc, sys
from converter.conversion.toolchain import coremltools_quietly
with coremltools_quietly() as ct:
    pass
assert "coremltools.optimize.torch.quantization" not in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()
assert ct.optimize.coreml.OpPalettizerConfig
# Whoever wants it after all gets it.
from coremltools.optimize.torch.quantization import LinearQuantizer
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its import fails, unless the collector is off."""
    name = "imported_here_only"
    (tmp_path / f"{name}.py").write_text("import gc\nassert not gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_nothing_is_collected_while_modules_are_imported(module: str) -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with large_imports():
        __import__(module)
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    frozen = gc.get_freeze_count()
    mine: list[list[int]] = [[] for _ in range(1000)]
    with large_imports():
        __import__(module)  # the second time it is there: what others made is none of a module's
    assert gc.get_freeze_count() <= frozen + len(mine) / 2


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was_also_after_a_failure(collects: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with pytest.raises(ImportError), large_imports():
            raise ImportError("no such module")
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_coremltools_comes_without_what_trains_networks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COREMLTOOLS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
