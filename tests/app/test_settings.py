"""Settings from the environment, and their documentation."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.support.paths import ROOT


def test_defaults_are_those_of_a_lab_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENA_MODEL", raising=False)
    settings = Settings()
    assert settings.model == "AIRI-Institute/gena-lm-bert-base"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.api_key is None
    assert settings.cors_origins == ()


def test_the_environment_sets_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENA_PORT", "9000")
    monkeypatch.setenv("GENA_CORS_ORIGINS", "https://a.example, https://b.example,")
    monkeypatch.setenv("GENA_LOG_FILE", "/tmp/gena.log")
    monkeypatch.setenv("GENA_REVISION", "")
    settings = Settings(port=9001)
    assert settings.port == 9001
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.log_file == Path("/tmp/gena.log")
    assert settings.revision is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GENA_PORT", "70000"),
        ("GENA_RUNTIME", "cuda"),
        ("GENA_QUEUE_TOKENS", "511"),
        ("GENA_PREDICT_TIMEOUT_SECONDS", "0"),
        ("GENA_MAX_BODY_BYTES", "64MiB"),
        ("GENA_ALLOWED_HOSTS", "http://gena.lab.example"),
        ("GENA_ALLOWED_HOSTS", "[::1]evil.com"),
        ("GENA_CORS_ORIGINS", "lab.example"),
        ("GENA_CORS_ORIGINS", "https://lab.example/"),
    ],
)
def test_what_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_paths_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENA_BUNDLES", "~/bundles")
    settings = Settings(bundle="~/bundle", log_file=Path("~/gena.log"))
    assert settings.bundles == tmp_path / "bundles"
    assert settings.bundle == tmp_path / "bundle"
    assert settings.log_file == tmp_path / "gena.log"


@pytest.mark.parametrize("name", ["GENA_MODEL", "GENA_BUNDLE", "GENA_BUNDLES", "GENA_LOG_FILE"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("~nouser/x", "no home folder"),
        ("x" * 5000, "too long"),
        ("caf\udce9", "no text|unicode string"),
    ],
)
def test_a_path_that_cannot_be_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, path: str, reason: str
) -> None:
    monkeypatch.setenv(name, path)
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings()
    (problem,) = caught.value.errors()
    assert problem["loc"] == (name.removeprefix("GENA_").lower(),)
    assert len(problem["msg"]) < 400


def test_the_key_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENA_API_KEY", "hunter2")
    assert "hunter2" not in repr(Settings())


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "It is empty"),
        ("   ", "white space"),
        ("\t", "white space"),
        ("hunter2 ", "white space"),
        ("hunter2\n", "white space"),
        ("hun\tter2", "no header can carry"),
        ("hun\u200bter2", "no header can carry"),
        ("hun\udcffter2", "no header can carry"),  # bytes that are not UTF-8
    ],
)
@pytest.mark.parametrize("name", ["GENA_API_KEY", "gena_api_key"])
def test_a_key_that_would_lock_all_out_or_let_all_in_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str, reason: str
) -> None:
    monkeypatch.delenv("GENA_API_KEY", raising=False)
    monkeypatch.setenv(name, key)
    with pytest.raises(ValidationError, match=reason) as refused:
        Settings()
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["hunter2", "two words", "schlüssel", "ключ", "!\"$%'"])
def test_a_key_that_a_header_can_carry_is_taken(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("GENA_API_KEY", key)
    api_key = Settings().api_key
    assert api_key is not None
    assert api_key.get_secret_value() == key


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def defaults_on_the_page() -> dict[str, tuple[str, str]]:
    """Variable -> its default as it is written there, and the same for people."""
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"(?m)^\| `(GENA_[A-Z_]+)` \|[^|]*\|[^|]*\|([^|]*)\|", page)
    halves = ((name, cell.strip().partition(" ")) for name, cell in rows)
    return {name: (written, words) for name, (written, _, words) in halves}


def test_the_page_lists_every_setting() -> None:
    assert list(defaults_on_the_page()) == [
        f"GENA_{name.upper()}" for name in Settings.model_fields
    ]


def test_the_defaults_on_the_page_mean_what_holds_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = Settings()
    for name, (written, _) in defaults_on_the_page().items():
        if written:
            monkeypatch.setenv(name, written.strip("`"))
    assert Settings() == without


def test_bytes_are_said_for_people_as_well() -> None:
    units = {"KiB": 2**10, "MiB": 2**20}
    said = {
        int(written.strip("`")): words.strip("()").split()
        for written, words in defaults_on_the_page().values()
        if words
    }
    assert len(said) >= 4
    assert all(number == int(size) * units[unit] for number, (size, unit) in said.items())
