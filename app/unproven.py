"""What no Mac has run yet, of what only a Mac can run: `unproven.json`, the one list of it.

`gena doctor` says which entries a Mac has shown, `tools/strike_off.py` strikes them off, the README
and `/info` tell of the others.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

LIST = Path(__file__).with_name("unproven.json")


class Unproven(BaseModel):
    """One entry.

    Attributes:
        text: for people, a noun with what belongs to it.
        shown_by: steps of `gena doctor` that show it where all of them pass; none: no step can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    text: str
    shown_by: tuple[str, ...]


_ENTRIES = TypeAdapter(tuple[Unproven, ...])


@cache
def unproven() -> tuple[Unproven, ...]:
    """The list, as it stands beside this file."""
    return read(LIST.read_bytes())


def read(content: bytes) -> tuple[Unproven, ...]:
    """The list in the content of a file."""
    return _ENTRIES.validate_json(content)


def write(entries: tuple[Unproven, ...]) -> bytes:
    """The content of a file for a list."""
    return _ENTRIES.dump_json(entries, indent=2) + b"\n"


def shown_by(steps: Collection[str]) -> tuple[str, ...]:
    """Names of the entries that these steps show, all of them passed on a Mac."""
    return tuple(
        each.name
        for each in unproven()
        if each.shown_by and all(step in steps for step in each.shown_by)
    )


def sentence(entries: tuple[Unproven, ...]) -> str:
    """What the README says of them."""
    if not entries:
        return "Nothing that only a Mac can run is left that no Mac has run."
    texts = [entry.text for entry in entries]
    listed = "; ".join([*texts[:-1], f"and {texts[-1]}"]) if texts[1:] else texts[0]
    return f"Never run on a Mac: {listed}."
