"""Versions of the distributions that are installed here."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "gena-coreml"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version by name of distribution, without those that are not installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def own_version() -> str:
    """Of this project; "0" when it runs from a folder that was never installed."""
    return installed_versions([DISTRIBUTION]).get(DISTRIBUTION, "0")
