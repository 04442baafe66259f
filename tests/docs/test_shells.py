"""Commands of the README and the recipes, as they are pasted into a Mac's zsh."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What every command of the pages comes to here: its name and its words.
TOLD = """
for name in awk curl make grep printf gzip export mkdir cat jq head tail gena xargs; do
  eval "$name() { print -r -- $name \\"\\$@\\" }"
done
"""


def blocks() -> list[pytest.ParameterSet]:
    return [
        pytest.param(code, id=f"{page.name}-{number}")
        for page in PAGES
        for number, code in enumerate(BLOCK.findall(page.read_text()))
    ]


@pytest.mark.parametrize("code", blocks())
def test_nothing_is_a_comment_to_some_shells_only(code: str) -> None:
    # An interactive zsh takes # for a word, and what follows for arguments.
    assert [line for line in code.splitlines() if re.search(r"(^|\s)#", line)] == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize("code", blocks())
def test_zsh_takes_it_as_it_is_pasted(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["zsh", "-f", "-o", "nomatch", "-o", "no_interactive_comments", "-o", "err_exit"],
        input=TOLD + code,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")
