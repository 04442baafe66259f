"""docs/architecture.md, held against the tree."""

import re

from tests.support.paths import ROOT
from tests.support.tracked import tracked_files

TEXT = (ROOT / "docs" / "architecture.md").read_text()


def map_of_the_page() -> dict[str, set[str]]:
    """Folder -> names of its modules: the deeply indented lines below it."""
    rooms: dict[str, set[str]] = {}
    top = room = ""  # a room may have several rows
    for line in TEXT.partition("```\n")[2].partition("```")[0].splitlines():
        name = line.split()[0].rstrip("/") if line else ""
        if line.startswith(" " * 16):
            rooms.setdefault(room, set()).update(line.split())
        elif line.startswith("  "):
            inside = re.match(r"in (\w+/)", " ".join(line.split()[1:]))
            room = top if name == "." else f"{top}/{inside[1] if inside else ''}{name}"
        elif line:
            top = name
    return rooms


def rooms_of_the_tree() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for path in tracked_files():
        column = path.parts[0] in ("app", "converter")
        if column and path.suffix == ".py" and not path.name.startswith("__"):
            rooms.setdefault(path.parent.as_posix(), set()).add(path.stem)
    return rooms


def test_the_map_is_the_tree() -> None:
    assert map_of_the_page() == rooms_of_the_tree()


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:app|converter|tests|tools)/[\w/.]*)`", TEXT)

    assert len(named) > 50
    assert [name for name in named if not (ROOT / name).exists()] == []
