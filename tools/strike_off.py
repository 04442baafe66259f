"""What a Mac has shown is struck off the list of what none has run, and off the README.

    python -m tools.strike_off gena-report.json ...

Of reports by `gena doctor` that somebody sent. Without any, the README is made to say what the list
says.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from app.doctor.report import Report
from app.unproven import LIST, read, sentence, write

README = Path(__file__).resolve().parents[1] / "README.md"
_WIDTH = 100
_MARKED = re.compile(r"(?<=<!-- unproven -->\n).*?(?=\n<!-- /unproven -->)", re.DOTALL)


def strike_off(reports: Sequence[Report], file: Path = LIST, readme: Path = README) -> list[str]:
    """Rewrite both files; the texts that were struck off. A run without a Mac shows nothing."""
    shown = {name for report in reports if report.on_a_mac for name in report.shown}
    entries = read(file.read_bytes())
    left = tuple(entry for entry in entries if entry.name not in shown)
    file.write_bytes(write(left))
    said = textwrap.fill(sentence(left), _WIDTH, break_on_hyphens=False)
    readme.write_text(_MARKED.sub(lambda _: said, readme.read_text()))
    return [entry.text for entry in entries if entry.name in shown]


def main(argv: Sequence[str] | None = None) -> int:
    """Strike off what these reports show, and say what that was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reports", nargs="*", type=Path, help="the JSON of `gena doctor`")
    arguments = parser.parse_args(argv)
    reports = [Report.model_validate_json(path.read_bytes()) for path in arguments.reports]
    for text in strike_off(reports):
        print(f"struck off: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
