"""What launchd and systemd are told, read back as they would read it."""

import configparser
import plistlib
import shlex
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.host import service_managers
from app.host.launch_agent import install, service_command, status, this_system, uninstall
from app.host.service_managers import Launchd, Systemd
from app.settings import Settings


class Recorder:
    """Stands where launchctl and systemctl are called."""

    def __init__(self, returncode: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.returncode = returncode

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.commands.append(list(command))
        return subprocess.CompletedProcess(command, self.returncode, "", "not permitted")


class FakeLaunchd(Recorder):
    """launchctl, as far as it is used here: what it is told takes a while.

    Args:
        slowness: how often it is asked in vain after a bootout.
        state: of the service when it is loaded.
    """

    def __init__(self, slowness: int = 0, state: str = "running") -> None:
        super().__init__()
        self.slowness = slowness
        self.state = state
        self.loaded = False
        self.leaving = 0

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.commands.append(list(command))
        code, said = self._answer(*command[1:3])
        return subprocess.CompletedProcess(command, code, said, "" if code == 0 else "no")

    def _answer(self, verb: str, target: str) -> tuple[int, str]:
        there = self.loaded or self.leaving > 0
        if verb == "bootout":
            if not there:
                return 3, ""
            self.loaded, self.leaving = False, self.slowness
            return (36 if self.slowness else 0), ""
        if verb == "bootstrap":
            if there:
                self.leaving -= 1
                return 5, ""
            self.loaded = True
        if verb == "print" and target.count("/") == 2:
            self.leaving -= 1
            return (0, f"\tstate = {self.state}\n") if there else (113, "")
        return 0, ""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GENA_API_KEY", 'a "quoted" $KEY 100%')
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(service_managers, "_PAUSE_SECONDS", 0.001)


def written_unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


def test_launchd_agent(tmp_path: Path) -> None:
    manager, execute = Launchd(tmp_path, user=501), FakeLaunchd()
    given = {"model": "gena-mini", "port": 9000}
    settings = Settings(model="gena-mini", port=9000, grace_seconds=20)
    assert install(settings, given, dry_run=False, manager=manager, execute=execute) == 0
    path = tmp_path / "Library" / "LaunchAgents" / "gena-coreml.plist"
    agent = plistlib.loads(path.read_bytes())
    assert agent["Label"] == "gena-coreml"
    assert agent["ProgramArguments"][0] == sys.executable
    options = agent["ProgramArguments"][agent["ProgramArguments"].index("serve") + 1 :]
    assert sorted(options) == [
        f"--log-file={tmp_path / 'Library' / 'Logs' / 'gena-coreml' / 'gena.log'}",
        "--model=gena-mini",
        "--port=9000",
    ]
    assert agent["EnvironmentVariables"]["GENA_API_KEY"] == 'a "quoted" $KEY 100%'
    assert agent["EnvironmentVariables"]["HF_ENDPOINT"] == "http://mirror.example"
    assert "HF_TOKEN" not in agent["EnvironmentVariables"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > 20
    assert Path(agent["StandardErrorPath"]).parent.is_dir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert execute.commands[-1] == ["launchctl", "bootstrap", "gui/501", str(path)]


def test_systemd_unit(tmp_path: Path) -> None:
    manager, execute = Systemd(tmp_path), Recorder()
    assert install(Settings(), {}, dry_run=False, manager=manager, execute=execute) == 0
    path = tmp_path / ".config" / "systemd" / "user" / "gena-coreml.service"
    unit = written_unit(path)
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[0] == sys.executable
    assert "serve" in command
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Install"]["WantedBy"] == "default.target"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # In systemd's rules: \" is a quote, %% a percent sign, and $ stands for itself.
    assert r'Environment="GENA_API_KEY=a \"quoted\" $KEY 100%%"' in path.read_text()
    assert execute.commands[-1][-2:] == ["--now", "gena-coreml.service"]


def test_what_systemd_makes_of_the_unit(tmp_path: Path) -> None:
    analyze = "/usr/bin/systemd-analyze"
    if not Path(analyze).exists():
        pytest.skip("systemd-analyze is not here")
    install(Settings(), {}, dry_run=False, manager=Systemd(tmp_path), execute=Recorder())
    unit = tmp_path / ".config" / "systemd" / "user" / "gena-coreml.service"
    done = subprocess.run(
        [analyze, "verify", "--user", str(unit)], capture_output=True, text=True, check=False
    )
    assert "gena-coreml" not in done.stderr


def test_a_folder_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = Settings(model="checkpoint")
    command = service_command(settings, {"model": "checkpoint"}, Path("gena.log"), {})
    assert f"--model={tmp_path / 'checkpoint'}" in command.arguments
    assert f"--log-file={tmp_path / 'gena.log'}" in command.arguments


def test_a_value_that_begins_with_a_dash_is_no_option(tmp_path: Path) -> None:
    settings = Settings(model="--port=1")
    command = service_command(settings, {"model": settings.model}, tmp_path / "log", {})
    assert "--model=--port=1" in command.arguments


def test_the_command_line_runs(tmp_path: Path) -> None:
    command = service_command(Settings(), {}, tmp_path / "log", {})
    done = subprocess.run(
        [*command.arguments, "--help"],
        cwd=tmp_path,
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--model" in done.stdout, done.stderr


def test_install_again_and_uninstall_with_systemd(tmp_path: Path) -> None:
    service, execute = Systemd(tmp_path), Recorder()
    install(Settings(), {}, dry_run=False, manager=service, execute=execute)
    first = len(execute.commands)
    install(Settings(), {}, dry_run=False, manager=service, execute=execute)
    disable = [step.command for step in service.disable()]
    assert disable[0] in execute.commands[first:]
    assert status(dry_run=False, manager=service, execute=execute) == 0
    assert uninstall(dry_run=False, manager=service, execute=execute) == 0
    assert not service.file.exists()
    assert execute.commands[-1:] == disable
    execute.returncode = 4  # of a unit that is not there
    assert uninstall(dry_run=False, manager=service, execute=execute) == 1
    assert status(dry_run=False, manager=service, execute=execute) == 1


@pytest.mark.parametrize("slowness", [0, 1, 5])
def test_an_agent_that_is_installed_again_runs_afterwards(tmp_path: Path, slowness: int) -> None:
    service, launchd = Launchd(tmp_path, 501), FakeLaunchd(slowness)
    for _ in range(2):
        assert install(Settings(), {}, dry_run=False, manager=service, execute=launchd) == 0
        assert launchd.loaded
        assert status(dry_run=False, manager=service, execute=launchd) == 0
    assert uninstall(dry_run=False, manager=service, execute=launchd) == 0
    assert not launchd.loaded
    # Somebody else has unloaded it: it can be removed all the same.
    install(Settings(), {}, dry_run=False, manager=service, execute=launchd)
    launchd.loaded = False
    assert uninstall(dry_run=False, manager=service, execute=launchd) == 0


def test_an_agent_whose_file_somebody_removed_is_replaced_and_removed(tmp_path: Path) -> None:
    manager, execute = Launchd(tmp_path, user=501), FakeLaunchd()
    execute.loaded = True
    assert install(Settings(), {}, dry_run=False, manager=manager, execute=execute) == 0
    assert ["launchctl", "bootout", "gui/501/gena-coreml"] in execute.commands

    manager.file.unlink()
    assert uninstall(dry_run=False, manager=manager, execute=execute) == 0
    assert not execute.loaded
    assert uninstall(dry_run=False, manager=manager, execute=execute) == 1


def test_an_agent_that_is_loaded_and_waits_is_not_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, launchd = Launchd(tmp_path, 501), FakeLaunchd(state="spawn scheduled")
    install(Settings(), {}, dry_run=False, manager=service, execute=launchd)
    assert status(dry_run=False, manager=service, execute=launchd) == 1
    assert "installed, not running" in capsys.readouterr().out


@pytest.mark.parametrize(
    "folder",
    [
        *("Documents", "Desktop", "Downloads"),
        *("Library/Mobile Documents/com~apple~CloudDocs", "Library/CloudStorage/Dropbox"),
        "/Volumes/lab disk",
    ],
)
def test_what_macos_hides_from_services_is_refused(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service, launchd = Launchd(tmp_path, 501), FakeLaunchd()
    settings = Settings(bundle=tmp_path / folder / "bundle")
    assert install(settings, {}, dry_run=False, manager=service, execute=launchd) == 1
    assert f"{folder}/bundle" in capsys.readouterr().err
    assert not service.file.exists()


def test_a_link_to_what_macos_hides_is_refused_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service, launchd = Launchd(tmp_path.resolve(), 501), FakeLaunchd()
    (tmp_path / "Documents" / "bundle").mkdir(parents=True)
    (tmp_path / "bundle").symlink_to(tmp_path / "Documents" / "bundle")
    settings = Settings(bundle=tmp_path / "bundle")
    assert install(settings, {}, dry_run=False, manager=service, execute=launchd) == 1
    assert "Documents/bundle" in capsys.readouterr().err


def test_checkpoints_on_another_disk_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", "/Volumes/lab/huggingface")
    service, launchd = Launchd(tmp_path, 501), FakeLaunchd()
    assert install(Settings(), {}, dry_run=False, manager=service, execute=launchd) == 1
    assert "/Volumes/lab/huggingface" in capsys.readouterr().err


def test_without_a_session_it_is_said_where_to_log_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute = Recorder(returncode=125)
    manager = Launchd(tmp_path, 501)
    assert install(Settings(), {}, dry_run=False, manager=manager, execute=execute) == 1
    assert "log in at the screen" in capsys.readouterr().err
    assert not manager.file.exists()


def test_the_way_to_the_network_is_kept() -> None:
    kept = {"HTTPS_PROXY": "http://proxy.example:3128", "SSL_CERT_FILE": "/etc/lab.pem"}
    environ = {**kept, "EDITOR": "ed"}
    command = service_command(Settings(), {}, Path("gena.log"), environ)
    assert kept.items() <= command.environment.items()
    assert "EDITOR" not in command.environment


def test_a_refusal_of_the_system_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refuses(Recorder):
        def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
            self.returncode = 0 if "show-environment" in command else 5
            return super().__call__(command)

    execute = Refuses()
    manager = Systemd(tmp_path)
    assert install(Settings(), {}, dry_run=False, manager=manager, execute=execute) == 1
    assert "not permitted" in capsys.readouterr().err
    assert status(dry_run=False, manager=manager, execute=execute) == 1


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manager, execute = this_system(), Recorder()
    assert install(Settings(), {}, dry_run=True, manager=manager, execute=execute) == 0
    assert uninstall(dry_run=True, manager=manager, execute=execute) == 0
    assert status(dry_run=True, manager=manager, execute=execute) == 0
    said = capsys.readouterr().out
    assert str(manager.file) in said
    assert "would run" in said
    assert (execute.commands, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("manager", [Launchd, Systemd])
def test_a_dry_run_shows_no_secret(
    tmp_path: Path,
    manager: type,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Launchd(tmp_path, 501) if manager is Launchd else Systemd(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "https://someone:hunter2@mirror.example/hub")
    monkeypatch.setenv("GENA_QUEUE_TOKENS", "1024")
    assert install(Settings(), {}, dry_run=True, manager=service, execute=Recorder()) == 0
    said = capsys.readouterr().out
    assert "quoted" not in said
    assert "hunter2" not in said
    assert "GENA_API_KEY" in said
    assert "mirror.example/hub" in said
    assert "1024" in said
    execute = FakeLaunchd() if manager is Launchd else Recorder()
    assert install(Settings(), {}, dry_run=False, manager=service, execute=execute) == 0
    assert "https://someone:hunter2@mirror.example/hub" in service.file.read_text()
    assert "quoted" not in capsys.readouterr().out
