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
    ],
)
def test_what_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_the_key_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENA_API_KEY", "hunter2")
    assert "hunter2" not in repr(Settings())


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_readme_lists_every_setting() -> None:
    rows = re.findall(r"(?m)^\| (`GENA_[^|]*) \|", (ROOT / "README.md").read_text())
    listed = [name for row in rows for name in re.findall(r"`GENA_([A-Z_]+)`", row)]
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)
