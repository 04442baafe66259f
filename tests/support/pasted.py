"""Blocks of the pages in docs/, run as they are pasted."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMANDS = {
    "bash": ("bash", "-euo", "pipefail", "recipe"),
    "r": ("Rscript", "--vanilla", "recipe"),
    "python": (sys.executable, "recipe"),
}


@dataclass(frozen=True)
class Block:
    language: str
    code: str


def sections(page: Path) -> dict[str, list[Block]]:
    """Blocks by heading, in the order of the page."""
    found = {}
    for part in page.read_text().split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        found[heading] = [Block(language, code) for language, code in blocks]
    return found


def run_block(block: Block, folder: Path, environment: Mapping[str, str]) -> str:
    """What it printed; fails with that when its exit status is not 0.

    Args:
        environment: beside the few variables that every block gets; `PATH` is put before theirs.
    """
    (folder / "recipe").write_text(block.code)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    usual = {"HOME": str(folder), "LC_ALL": "C.UTF-8"}
    before = environment.get("PATH")
    done = subprocess.run(
        COMMANDS[block.language],
        cwd=folder,
        env={**usual, **environment, "PATH": f"{before}:{path}" if before else path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def put_command(folder: Path, name: str, script: str) -> None:
    """A program of that name in a folder, to be put into `PATH`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)
