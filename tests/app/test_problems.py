"""The table of problems, and what is said of it elsewhere."""

import re

import pytest

from app.errors import ProblemError
from app.problems import PROBLEMS
from app.settings import Settings
from tests.support.paths import ROOT


def test_the_page_lists_every_problem_with_its_status_and_title() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"(?m)^\| (\d+) \| `([a-z_.]+)` \| ([^|]+) \|", page)

    assert sorted(rows) == sorted(
        (str(kind.status), code, kind.title) for code, kind in PROBLEMS.items()
    )


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_something(code: str) -> None:
    kind = PROBLEMS[code]

    assert kind.title
    assert kind.example or kind.hint
    assert not kind.hint.startswith(" ")


def test_a_problem_is_raised_by_its_code_and_detail() -> None:
    problem = ProblemError("body.too_large", "The limit is 5 bytes.", limit=5, record=None)

    document = problem.as_dict()
    assert (document["status"], document["title"]) == (413, "The body is too large")
    assert document["detail"].startswith("The limit is 5 bytes. Send the records in several")
    assert (document["limit"], "record" in document) == (5, False)
    assert ProblemError("queue.full", "Full.", retry_after=3).headers == {"Retry-After": "3"}
    assert ProblemError("auth.invalid").headers == {"WWW-Authenticate": "Bearer"}


def test_an_unknown_code_is_no_problem() -> None:
    with pytest.raises(KeyError):
        ProblemError("body.too_lagre", "The limit is 5 bytes.")


@pytest.mark.parametrize(
    "code",
    [
        "body.too_large",
        "body.too_large_decoded",
        "record.too_long",
        "request.too_many_records",
        "request.too_many_tokens",
    ],
)
def test_a_limit_on_sequences_names_its_setting_and_the_way_around_it(code: str) -> None:
    hint = PROBLEMS[code].hint

    (setting,) = re.findall(r"raise (GENA_\w+)", hint)
    assert setting.removeprefix("GENA_").lower() in Settings.model_fields
    assert "gena embed FILE -o FOLDER" in hint


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        ("body.too_large", "max_body_bytes"),
        ("body.too_large_decoded", "max_decoded_bytes"),
        ("json.too_large", "max_json_bytes"),
        ("record.too_long", "max_record_bases"),
        ("request.too_many_records", "max_records"),
        ("request.too_many_tokens", "max_request_tokens"),
        ("queue.full", "queue_tokens"),
        ("headers.too_large", "max_header_bytes"),
        ("deadline.exceeded", "deadline_seconds"),
    ],
)
def test_examples_have_the_limits_that_hold(code: str, setting: str) -> None:
    limit = Settings.model_fields[setting].default

    assert PROBLEMS[code].members["limit"] == limit
    assert str(limit) in PROBLEMS[code].example
