"""Step: the tests."""

import os
import re
import sys
from collections import Counter
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from app.doctor.commands import ROOT, run
from app.doctor.findings import SkippedTests, Suite
from app.doctor.visit import SkippedStepError, Visit
from converter.errors import brief

_SECONDS = 2 * 3600.0
_WORKERS = 2
_MOST_NAMES = 20
# Of what a test that failed says.
_LONGEST = 300


def examine_suite(visit: Visit) -> Generator[Suite, None, None]:
    """Run pytest on the clone, as `make test` does, with its files in the folder of this run."""
    if not all((ROOT / each).exists() for each in visit.tests):
        raise SkippedStepError("the tests are in a clone, and this runs without one.")
    if find_spec("pytest") is None or find_spec("xdist") is None:
        raise SkippedStepError("pytest is not installed; `make dev` installs it.")
    results = visit.scratch / "suite.xml"
    command = [sys.executable, "-m", "app.doctor.tethered", "pytest"]
    command += ["-n", str(_WORKERS), "--dist", "worksteal"]
    command += ["-p", "no:cacheprovider", f"--basetemp={visit.scratch / 'pytest'}"]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GENA_")}
    done = run(
        [*command, f"--junitxml={results}", *visit.tests],
        visit.output("suite"),
        seconds=_SECONDS,
        on_line=lambda line: _tell(visit, line),
        variables={**variables, "OMP_NUM_THREADS": "1"},
    )
    if not results.is_file():
        yield Suite(problems=(f"pytest ended with {done.returncode}: {done.last_words}",))
        return
    yield _read(results)


def _tell(visit: Visit, line: str) -> None:
    found = re.search(r"\[ *(\d+)%\]", line)
    if found:
        visit.say(f"{found[1]} % of the tests")


def _read(results: Path) -> Suite:
    cases = list(ElementTree.parse(results).iter("testcase"))
    bad = [(case, part) for case in cases if (part := _part(case, "failure", "error")) is not None]
    skips = [
        part.get("message", "") for case in cases if (part := _part(case, "skipped")) is not None
    ]
    told = [
        f"{case.get('classname')}: {case.get('name')}: {brief(part.get('message', ''), _LONGEST)}"
        for case, part in bad
    ]
    more = len(told) - _MOST_NAMES
    problems = [f"Failed: {each}" for each in told[:_MOST_NAMES]]
    if more > 0:
        problems.append(f"And {more} more failed.")
    reasons = Counter(skips).most_common()
    return Suite(
        passed=len(cases) - len(bad) - len(skips),
        failed=len(bad),
        skipped=len(skips),
        reasons=tuple(SkippedTests(count=count, reason=each) for each, count in reasons),
        problems=tuple(problems),
    )


def _part(case: ElementTree.Element, *names: str) -> ElementTree.Element | None:
    return next((part for part in case if part.tag in names), None)
