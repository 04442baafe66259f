"""What `make` says before it installs anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# A Python on another machine, as far as `python -c` goes; it makes no environment.
_ELSEWHERE = """#!{python}
import platform, sys
sys.platform = "{system}"
platform.machine = lambda: "{machine}"
platform.mac_ver = lambda: ("{release}", ("", "", ""), "{machine}")
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    sys.exit("makes an environment")
"""


@pytest.mark.parametrize(
    ("system", "machine", "release", "said"),
    [
        ("darwin", "x86_64", "14.6", "Apple silicon, macOS 14 or later"),
        ("darwin", "arm64", "13.7", "Apple silicon, macOS 14 or later"),
        ("darwin", "arm64", "15.5", "makes an environment"),
        ("linux", "x86_64", "", "makes an environment"),
    ],
)
def test_a_mac_that_torch_does_not_run_on_is_told_so(
    system: str, machine: str, release: str, said: str, tmp_path: Path
) -> None:
    python = tmp_path / "python3"
    python.write_text(
        _ELSEWHERE.format(python=sys.executable, system=system, machine=machine, release=release)
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert said in done.stderr
