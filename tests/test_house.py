"""How the source is cut: what no linter checks. Imports between rooms: `make check`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.tracked import tracked_files

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 50
FLAT_TABLES = {Path("converter/mil/operations.py")}
SOURCES = [path for path in tracked_files() if path.suffix == ".py"]


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to its last line, docstring included."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def test_the_source_was_found() -> None:
    assert {path.parts[0] for path in SOURCES} >= {"app", "converter", "tools", "tests"}
    assert Path("tests/test_house.py") in SOURCES


def test_files_are_short() -> None:
    assert set(SOURCES) >= FLAT_TABLES
    lengths = {
        path: len((ROOT / path).read_text().splitlines())
        for path in SOURCES
        if path not in FLAT_TABLES
    }
    long = [f"{path}: {n} lines" for path, n in lengths.items() if n > MOST_LINES]
    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    long = [
        f"{path}:{function.lineno} {function.name}: {lines_of(function)} lines"
        for path in SOURCES
        for function in functions((ROOT / path).read_text())
        if lines_of(function) > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_no_tool_is_called_as_only_linux_has_it() -> None:
    """Neither in tests nor in what people paste: a Mac has BSD's tools."""
    of_gnu = re.compile(
        r"""\benv['", ]+-C\b|\bsha256sum\b|\bmd5sum\b|\bnproc\b|readlink -f|date -d|stat -c|"""
        r"grep -P|sort -V|xargs -r|sed -i |cp -a |head -n -|base64 -w"
    )
    texts = [path for path in tracked_files() if path.suffix in (".py", ".md") or not path.suffix]
    # What Debian runs, and this list.
    elsewhere = {Path(".ci/run"), Path("tests/test_house.py")}
    assert [
        path for path in texts if path not in elsewhere and of_gnu.search((ROOT / path).read_text())
    ] == []


def test_nothing_imports_a_test_file() -> None:
    """In strings as well, for other processes."""
    importing = re.compile(r"(?:from|import) tests\.[\w.]*\b(?:test_\w+|conftest)\b")
    assert [path for path in SOURCES if importing.search((ROOT / path).read_text())] == []
