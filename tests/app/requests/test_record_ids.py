"""What a record may be called."""

import pytest

UNSEEN = {
    "\u2028": "line separator",
    "\u2029": "paragraph separator",
    "\u202e": "formats",  # right to left, from here on
    "\u2066": "formats",
    "\u200b": "formats",  # zero-width space
    "\u200d": "formats",
    "\u00ad": "formats",  # soft hyphen
    "\ufeff": "formats",
    "\U000e0041": "formats",  # a tag
    "\u00a0": "space",
    "\u3000": "space",
    "\u0085": "control",
    "\x00": "control",
    "\n": "control",
    "\ue000": "private",
    "\uffff": "not define",
    "\u3164": "not seen",  # Hangul's filler, a letter
    "\ufe0f": "not seen",  # a variation selector
    "\u034f": "not seen",
    "\u2800": "not seen",
}


@pytest.mark.parametrize("letter", UNSEEN, ids=lambda letter: f"U+{ord(letter):04X}")
def test_nothing_unseen_is_in_an_id(service, letter):
    body = {"sequences": ["ACGT", {"id": f"ge{letter}ne", "sequence": "ACGT"}]}

    response = service.post("/tokenize", json=body)

    found = response.json()
    assert (response.status_code, found["code"]) == (422, "record.invalid_id")
    assert found["record_number"] == 2
    assert UNSEEN[letter] in found["detail"]
    assert f"(U+{ord(letter):04X}, at position 3)" in found["detail"]
    assert letter not in found["detail"]


def test_letters_of_all_languages_are_in_ids(service):
    names = ["Ген 1", "遺伝子", "gène", "जीन", "=cmd|' /C calc'!A0", "\U0001f9ec", 'p53"x']
    body = {"sequences": [{"id": name, "sequence": "ACGT"} for name in names]}

    answered = service.post("/tokenize", json=body).json()["records"]

    assert [record["id"] for record in answered] == names
