"""The `gena` command as a process."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.host.gate import warn_if_open
from app.host.listening import CannotListenError, bind
from app.settings import Settings
from converter.versions import own_version
from tests.support.paths import ROOT
from tests.support.running import running
from tests.support.stand_in_bundle import make_bundle

GENA = (sys.executable, "-m", "app.cli")


def gena(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*GENA, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_command_is_there() -> None:
    said = gena("--help").stdout
    for command in ("convert", "verify", "inspect", "tune", "serve", "service", "doctor"):
        assert f"\n    {command} " in said


def test_who_says_nothing_sees_the_commands_and_their_version() -> None:
    alone = gena()
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "answer DNA with features over HTTP" in alone.stderr
    assert gena("--version").stdout == f"gena-coreml {own_version()}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "gena-mini"), "unrecognized arguments: gena-mini. (A model: --model gena-mini)"),
        (
            ("convert", "gena-mini"),
            "unrecognized arguments: gena-mini. (A model: --model gena-mini)",
        ),
        (("serve", "--model", "gena-mini", "--prot", "1"), "unrecognized arguments: --prot 1\n"),
        (
            ("embed", "a b.fa", "b.fa", "c.fa", "-o", "v"),
            "One file, or all as one: cat 'a b.fa' b.fa c.fa | gena embed - -o v\n",
        ),
    ],
)
def test_what_is_too_much_is_said_with_what_was_meant(
    arguments: tuple[str, ...], said: str
) -> None:
    done = gena(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_servers_options_are_its_settings() -> None:
    said = " ".join(gena("serve", "--help").stdout.split())
    assert "--runtime {auto,coreml,torch,mil}" in said
    assert "--host HOST Address to listen on. Default: 127.0.0.1." in said
    assert "--threads THREADS CPU threads of the model, by torch and mil." in said
    assert "--dry-run" in gena("service", "install", "--help").stdout
    page = (ROOT / "docs" / "settings.md").read_text()
    listed = dict(re.findall(r"(?m)^\| `GENA_(\w+)` \| `(--[a-z-]+)` \|", page))
    assert set(re.findall(r"--[a-z-]+", said)) - {"--help"} == set(listed.values())
    assert all(f"--{name.lower().replace('_', '-')}" == listed[name] for name in listed)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--runtime", "cuda", "invalid choice"), ("--port", "http", "invalid int value")],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: str, reason: str) -> None:
    done = gena("serve", option, value)
    assert done.returncode == 2
    assert f"argument {option}: {reason}" in done.stderr


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('loaded:', *sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_converters_commands_do_not_wait_for_the_settings() -> None:
    code = "import app.cli\ntry: app.cli.main(['convert', '--help'])\nexcept SystemExit: pass"
    loaded = modules_after(code)
    assert "argparse" in loaded
    assert not loaded & {"app.settings", "pydantic_settings"}


def test_the_socket_is_bound_before_the_slow_imports() -> None:
    # What `gena serve` imports until then; --port is taken, so that it ends there.
    code = (
        "import app.cli, socket\n"
        "taken = socket.create_server(('127.0.0.1', 0))\n"
        "port = str(taken.getsockname()[1])\n"
        "assert app.cli.main(['serve', '--port', port]) == 1"
    )
    loaded = modules_after(code)
    assert "app.host.listening" in loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "app.main", "torch", "coremltools"}


def test_a_wrong_setting_is_named() -> None:
    done = gena("serve", "--port", "70000", GENA_QUEUE_TOKENS="many")
    assert done.returncode == 2
    assert "GENA_PORT" in done.stderr
    assert "GENA_QUEUE_TOKENS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("service", "install")])
@pytest.mark.parametrize("key", ["", "  "])
def test_no_server_starts_with_a_key_that_nobody_can_send(
    command: tuple[str, ...], key: str, tmp_path: Path
) -> None:
    done = gena(*command, GENA_API_KEY=key, HOME=str(tmp_path))
    assert done.returncode == 2
    assert "gena: GENA_API_KEY: It " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "key", "warns"),
    [
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("0.0.0.0", "hunter2", False),
        ("127.0.0.2", None, False),
        ("localhost", None, False),
    ],
)
def test_an_address_beyond_loopback_without_a_key_warns(
    host: str, key: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        listeners = bind(host, 0)
    except CannotListenError:
        pytest.skip(f"this machine has no {host}")
    address = listeners[0].getsockname()[0]
    for listener in listeners:
        listener.close()
    with caplog.at_level("WARNING", "gena"):
        warn_if_open(address, Settings(api_key=key))
    assert ("GENA_API_KEY" in caplog.text) == warns


def test_the_server_itself_warns(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    command = (*GENA, "serve", "--host", "0.0.0.0", "--bundle", str(bundle))
    with running(command) as server:
        assert any("WARNING" in line and "GENA_API_KEY" in line for line in server.log)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = gena("serve", "--port", port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = gena("serve", "--port", "0", "--log-file", str(tmp_path / "file" / "gena.log"))
    assert done.returncode == 1
    assert "cannot log" in done.stderr


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    command = (*GENA, "serve", "--bundle", str(bundle), "--model", "lab/one")
    with running(command, GENA_MODEL="lab/other", GENA_BUNDLE="/nowhere") as server:
        # No network is in this bundle; that it is this one is all that is asked.
        health = server.wait_for("failed")
        assert health["model"] == "stand-in"
        assert health["error"]["code"].startswith(("package.", "model.", "bundle."))


def test_the_users_folder_is_not_searched_for_modules(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    bundle = make_bundle(tmp_path / "bundle")
    command = (sys.executable, "-P", *GENA[1:], "serve")
    settings = {"GENA_BUNDLE": str(bundle), "PYTHONPATH": str(ROOT)}
    with running(command, folder=tmp_path, **settings) as server:
        server.wait_for("failed")
        assert "the wrong" not in server.text
