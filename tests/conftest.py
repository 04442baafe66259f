"""What many tests need and one conversion gives."""

import gc
from collections.abc import Generator
from pathlib import Path

import pytest

from converter.bundle.opening import Bundle


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """While modules and tests pile up there is no garbage among them to be looked for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_not_looked_through() -> None:
    """Spare the garbage collector the modules and tests: coremltools calls it for each package."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a 2-layer pre-LN checkpoint, hidden size 64, seeded random weights."""
    from tools.seeded_checkpoints import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path) -> Bundle:
    """That checkpoint converted and verified, once a session."""
    from converter.conversion.convert import convert

    return convert(str(tiny_checkpoint), output=tiny_checkpoint.with_name("bundle"))
