"""Texts of others, without what tells of a person."""

from pathlib import Path

import pytest

from app.doctor.redaction import Redaction

REDACTION = Redaction(
    [Path("/Users/jane/my project"), Path("/Users/jane")],
    ["jane", "Jane Doe", "Mac", "lab-mac.org"],
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no config.json in /Users/jane/my project/models/x.", "no config.json in <path>"),
        ("/Volumes/Data/genomes/run 7 is full", "<path> 7 is full"),
        ("No such file: '/Volumes/My Disk/a b.fa'", "No such file: <path>"),
        ("see ~/secret/plan.txt and ~jane/other", "see <path> and <path>"),
        ("file:///opt/lab/thing", "<path>"),
        ("by Jane Doe (jane@lab.org) on lab-mac.org", "by <name> (<address>) on <name>"),
        ("JANE, janet", "<name>, janet"),
        ("bad: ACGTACGTNNACGTACGT!", "bad: <18 letters>!"),
        ("ACGTACGT\\nACGTACGTAC", "<20 letters>"),
        # What tells nothing stays.
        ("on this Mac: 61.2 dB, 5 of 6", "on this Mac: 61.2 dB, 5 of 6"),
        ("POST /features was answered with 422", "POST /features was answered with 422"),
        ("tests/app/test_cli.py: test_it", "tests/app/test_cli.py: test_it"),
        ("127.0.0.1:8000/health, CPU and/or GPU", "127.0.0.1:8000/health, CPU and/or GPU"),
    ],
)
def test_a_text(text: str, left: str) -> None:
    assert REDACTION.text(text) == left


def test_a_person_may_be_called_as_a_word_of_the_report() -> None:
    redaction = Redaction([], ["passed", "units"])
    document = {"name": "units", "verdict": "passed", "reason": "it passed", "rows": ["units"]}
    assert redaction.document(document) == {
        "name": "units",
        "verdict": "passed",
        "reason": "it <name>",
        "rows": ["<name>"],
    }


def test_without_any_name_nothing_is_taken_for_one() -> None:
    assert Redaction([Path("/")], ["", "root"]).text("root a b") == "root a b"
