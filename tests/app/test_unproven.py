"""What no Mac has run: one list, the README's sentence, and what strikes entries off.

`/info`: tests/app/routes/test_operations.py.
"""

import re
import shutil
from pathlib import Path

from app.doctor.examination import STEPS
from app.doctor.recording import Recorder
from app.doctor.redaction import Redaction
from app.doctor.report import Report, StepReport
from app.unproven import LIST, Unproven, read, sentence, shown_by, unproven
from tests.support.doctor import found_on_a_mac
from tests.support.paths import ROOT
from tools.strike_off import README, strike_off

EVERY_STEP = {step.name for step in STEPS}


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_readme_says_what_the_list_says() -> None:
    text = (ROOT / "README.md").read_text()
    marked = re.findall(r"<!-- unproven -->(.*?)<!-- /unproven -->", text, re.DOTALL)
    assert [words(each) for each in marked] == [sentence(unproven())]


def test_what_would_show_an_entry_is_a_step() -> None:
    entries = unproven()
    assert len({entry.name for entry in entries}) == len(entries)
    assert {step for entry in entries for step in entry.shown_by} <= EVERY_STEP


def test_an_entry_is_shown_when_all_of_its_steps_have_passed() -> None:
    assert shown_by(["agent"]) == ("launch_agent",)
    assert shown_by(["units"]) == ()
    assert shown_by(["units", "features"]) == ("predictions",)
    # For some, no step is enough: nothing makes Core ML hang.
    assert set(shown_by(EVERY_STEP)) == {each.name for each in unproven() if each.shown_by}


def recorded(folder: Path, *, on_a_mac: bool) -> Report:
    """A run in which all but the load has passed, as its JSON has it."""
    found = found_on_a_mac()
    empty = Report(version="0", began="", on_a_mac=on_a_mac)
    recorder = Recorder(folder / "report.md", Redaction([], []), empty, lambda: None)
    steps = tuple(
        StepReport(
            name=step.name,
            verdict="failed" if step.name == "load" else "passed",
            seconds=1,
            findings=found[step.name],
        )
        for step in STEPS
    )
    recorder.found(empty.model_copy(update={"steps": steps}))
    return Report.model_validate_json((folder / "report.json").read_bytes())


def test_a_report_of_a_mac_strikes_off_what_it_shows(tmp_path: Path) -> None:
    file, readme = tmp_path / "unproven.json", tmp_path / "README.md"
    shutil.copy(LIST, file)
    shutil.copy(README, readme)

    elsewhere = recorded(tmp_path, on_a_mac=False)
    assert elsewhere.shown == ()
    claiming = elsewhere.model_copy(update={"shown": ("predictions",)})
    assert strike_off([elsewhere, claiming], file, readme) == []
    assert (file.read_bytes(), readme.read_text()) == (LIST.read_bytes(), README.read_text())

    struck = strike_off([recorded(tmp_path, on_a_mac=True)], file, readme)
    left = read(file.read_bytes())
    assert "predictions by Core ML" in struck
    assert [entry.name for entry in left] == ["time_limits", "endurance"]
    assert words(sentence(left)) in words(readme.read_text())
    assert words(README.read_text()).replace(words(sentence(unproven())), "") == words(
        readme.read_text()
    ).replace(words(sentence(left)), "")


def test_the_page_names_what_was_shown(tmp_path: Path) -> None:
    recorded(tmp_path, on_a_mac=True)
    page = (tmp_path / "report.md").read_text()
    assert "What no Mac had run before" in page
    assert "- the launchd agent" in page
    assert "stand-in" not in page


def test_sentences() -> None:
    one, two = (Unproven(name=text, text=text, shown_by=()) for text in ("this", "that"))
    assert sentence((one, two)) == "Never run on a Mac: this; and that."
    assert sentence((one,)) == "Never run on a Mac: this."
    assert sentence(()) == "Nothing that only a Mac can run is left that no Mac has run."
