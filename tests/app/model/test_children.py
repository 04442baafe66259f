"""What the children of the server are told, and what they are not."""

import json
import sys
from pathlib import Path

import pytest

from app.model.children import is_secret
from app.model.conversion import ConversionError, convert
from app.model.process import ModelProcess
from app.settings import Settings
from converter.bundle.opening import open_bundle
from tests.support.scenarios import scenario
from tests.support.stand_in_bundle import make_bundle

SECRETS = {
    "GENA_API_KEY": "hunter2",
    "HF_TOKEN": "hf_secret",
    "HUGGING_FACE_HUB_TOKEN": "hf_secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "PGPASSWORD": "secret",
}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a child writes its arguments and its environment."""
    for name, value in {**SECRETS, "GENA_QUEUE_TOKENS": "1024", "HF_HOME": "/hub"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "told"


def telling(path: Path) -> list[str]:
    """A command that writes down what it was told and ends."""
    code = f"""if True:
        import json, os, pathlib, sys
        path = pathlib.Path({str(path)!r})
        path.with_suffix(".part").write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
        path.with_suffix(".part").rename(path)
    """
    return [sys.executable, "-c", code]


async def ignore(_: object) -> None:
    """What a converter tells beside its progress."""


@scenario
async def test_the_converter_gets_the_hubs_token_and_no_other_secret(told: Path) -> None:
    with pytest.raises(ConversionError):
        await convert("--foo", "-r", Path("-o"), lambda *_: None, ignore, telling(told))
    arguments, environment = json.loads(told.read_text())
    assert arguments == ["--model=--foo", "--output=-o", "--revision=-r"]
    assert {name for name in SECRETS if name in environment} == {
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
    }
    assert (environment["HF_HOME"], environment["GENA_QUEUE_TOKENS"]) == ("/hub", "1024")


@scenario
async def test_the_model_gets_no_secret(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = open_bundle(make_bundle(Path("--b")))
    process = await ModelProcess.start(bundle, Settings(compute_units="-u"), telling(told))
    await process.died()
    arguments, environment = json.loads(told.read_text())
    assert {"--bundle=--b", "--compute-units=-u"} < set(arguments)
    assert not set(SECRETS) & set(environment)
    assert environment["GENA_QUEUE_TOKENS"] == "1024"


@pytest.mark.parametrize("policy", [None, "ACTIVE"])
def test_threads_that_wait_spin_briefly_unless_the_user_has_said_how(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setenv("KMP_BLOCKTIME", "7")

    @scenario
    async def start() -> None:
        bundle = open_bundle(make_bundle(tmp_path / "bundle"))
        process = await ModelProcess.start(bundle, Settings(), telling(told))
        await process.died()

    start()
    _, environment = json.loads(told.read_text())
    assert environment.get("OMP_WAIT_POLICY") == policy
    assert ("GOMP_SPINCOUNT" in environment) == (policy is None)
    assert environment["KMP_BLOCKTIME"] == "7"


@scenario
async def test_a_model_that_is_called_like_an_option_is_one_that_does_not_exist() -> None:
    with pytest.raises(ConversionError) as refused:
        await convert("--help", None, Path("-o"), lambda *_: None, ignore)
    assert refused.value.code == "checkpoint.unavailable"
    assert "'--help'" in str(refused.value)


@pytest.mark.parametrize("name", [*SECRETS, "Api_Key", "APIKEY", "SMTP_PASS", "X_CREDENTIALS"])
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", [f"GENA_{name.upper()}" for name in Settings.model_fields])
def test_of_the_settings_one_is_a_secret(name: str) -> None:
    assert is_secret(name) == (name == "GENA_API_KEY")
