import importlib.metadata

import numpy as np
import pytest

from converter import versions
from converter.versions import installed_versions, own_version


def test_what_is_not_installed_is_left_out() -> None:
    found = installed_versions(["numpy", "no-such-distribution", "filelock"])
    assert list(found) == ["numpy", "filelock"]
    assert found["numpy"] == np.__version__


def test_a_folder_that_was_never_installed_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    assert own_version() == "0"


def test_the_version_is_that_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", {"gena-coreml": "7.8.9"}.__getitem__)
    assert own_version() == "7.8.9"
