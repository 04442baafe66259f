"""The server as a launchd agent (macOS) or a systemd user unit (Linux)."""

import math
import os
import plistlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from app.model.children import is_secret, module_command
from app.settings import Settings
from converter.paths import existing_folder, user_path

LABEL = "gena-coreml"
# Where checkpoints come from; hub tokens stay in their own file.
_HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
_SECONDS_AFTER_GRACE = 10
_HIDDEN = "(hidden)"
# The password in http://user:password@mirror.example.
_USER_INFO = re.compile(r"//[^/?#\s]*@")

Done: TypeAlias = subprocess.CompletedProcess[str]
Execute: TypeAlias = Callable[[Sequence[str]], Done]


@dataclass(frozen=True)
class ServiceCommand:
    """What the system is told to keep running."""

    arguments: list[str]
    environment: dict[str, str]
    stop_seconds: int


class Launchd:
    """An agent in ~/Library/LaunchAgents: from login on, started again after a crash."""

    def __init__(self, home: Path, user: int) -> None:
        self.file = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.log_file = home / "Library" / "Logs" / LABEL / "gena.log"
        self._domain = f"gui/{user}"

    def definition(self, command: ServiceCommand) -> bytes:
        """The property list."""
        agent: dict[str, Any] = {
            "Label": LABEL,
            "ProgramArguments": command.arguments,
            "EnvironmentVariables": command.environment,
            "RunAtLoad": True,
            # Exit code 0 is an orderly stop and stays one.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": command.stop_seconds,
            # Not "Background": its limits on CPU and disk would slow every answer.
            "ProcessType": "Standard",
            # What is said before the log is open, for example a port that is taken.
            "StandardErrorPath": str(self.log_file.with_name("start.log")),
        }
        return plistlib.dumps(agent)

    def enable(self) -> list[list[str]]:
        """Commands that start it now and at every login."""
        return [
            ["launchctl", "enable", f"{self._domain}/{LABEL}"],
            ["launchctl", "bootstrap", self._domain, str(self.file)],
        ]

    def disable(self) -> list[list[str]]:
        """Commands that stop it and forget it."""
        return [["launchctl", "bootout", f"{self._domain}/{LABEL}"]]

    def status(self) -> list[str]:
        """Succeeds when it is loaded."""
        return ["launchctl", "print", f"{self._domain}/{LABEL}"]


class Systemd:
    """A user unit: from login on (from boot on with lingering), restarted after a crash."""

    def __init__(self, home: Path, config_home: Path | None = None) -> None:
        self.file = (config_home or home / ".config") / "systemd" / "user" / f"{LABEL}.service"
        self.log_file = home / ".local" / "state" / LABEL / "gena.log"

    def definition(self, command: ServiceCommand) -> bytes:
        """The unit file."""
        start = " ".join(_systemd_quoted(part) for part in command.arguments)
        environment = "".join(
            f"Environment={_systemd_quoted(f'{name}={value}', expands=False)}\n"
            for name, value in command.environment.items()
        )
        return (
            "[Unit]\n"
            "Description=GENA-LM features of DNA over HTTP\n"
            "\n"
            "[Service]\n"
            f"ExecStart={start}\n"
            f"{environment}"
            "Restart=on-failure\n"
            "RestartSec=10\n"
            # The server ends its children itself; what is left after the time is killed.
            "KillMode=mixed\n"
            f"TimeoutStopSec={command.stop_seconds}\n"
            "\n"
            "[Install]\n"
            "WantedBy=default.target\n"
        ).encode()

    def enable(self) -> list[list[str]]:
        """Commands that start it now and at every login."""
        return [
            ["systemctl", "--user", "daemon-reload"],
            ["systemctl", "--user", "enable", "--now", f"{LABEL}.service"],
        ]

    def disable(self) -> list[list[str]]:
        """Commands that stop it and forget it."""
        return [["systemctl", "--user", "disable", "--now", f"{LABEL}.service"]]

    def status(self) -> list[str]:
        """Succeeds when it runs."""
        return ["systemctl", "--user", "is-active", f"{LABEL}.service"]


Manager: TypeAlias = Launchd | Systemd


def this_system() -> Manager:
    """The manager of this machine's user services."""
    home = user_path("~")
    if sys.platform == "darwin":
        return Launchd(home, os.getuid())
    config_home = os.environ.get("XDG_CONFIG_HOME")
    return Systemd(home, Path(config_home) if config_home else None)


def service_command(
    settings: Settings, given: Mapping[str, Any], log_file: Path, environ: Mapping[str, str]
) -> ServiceCommand:
    """The server with the options that were given and the variables of this shell.

    Paths are made absolute: the service starts in another folder.
    """
    options = {"log_file": log_file, **given}
    folder = existing_folder(settings.model)
    if folder is not None:
        options["model"] = folder.resolve()
    arguments = module_command("app.cli", "serve")
    for name, value in options.items():
        if isinstance(value, Path):
            value = user_path(value).absolute()
        # With "=", a value that begins with a dash stays a value.
        arguments.append(f"--{name.replace('_', '-')}={value}")
    kept = {
        name: value
        for name, value in environ.items()
        if name.startswith("GENA_") or name in _HUB_VARIABLES
    }
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    stop = math.ceil(settings.grace_seconds) + _SECONDS_AFTER_GRACE
    return ServiceCommand(arguments, kept, stop)


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """For the eyes of whoever looks at the screen: no keys, and no passwords in addresses."""
    return {
        name: _HIDDEN if is_secret(name) else _USER_INFO.sub(f"//{_HIDDEN}@", value)
        for name, value in environment.items()
    }


def _execute(command: Sequence[str]) -> Done:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return Done(command, 127, "", f"{command[0]} is not here")


def install(
    settings: Settings,
    given: Mapping[str, Any],
    *,
    dry_run: bool,
    manager: Manager | None = None,
    execute: Execute = _execute,
) -> int:
    """Write the definition and start the service; the exit code.

    Args:
        given: options of the command line, by the names of settings.
        dry_run: print what would be written and run, and change nothing.
        manager: this machine's, where it is not given.
    """
    manager = manager or this_system()
    log_file = settings.log_file or manager.log_file
    command = service_command(settings, given, log_file, os.environ)
    if dry_run:
        shown = replace(command, environment=_without_secrets(command.environment))
        print(f"would write {manager.file}:\n{manager.definition(shown).decode()}")
        return _print_commands(manager.enable())
    if manager.file.exists():
        # An agent that runs keeps its old definition until it is unloaded.
        for step in manager.disable():
            execute(step)
    manager.log_file.parent.mkdir(parents=True, exist_ok=True)
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    # It may hold the API key: nobody else reads it, from its first byte on.
    manager.file.unlink(missing_ok=True)
    descriptor = os.open(manager.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(manager.definition(command))
    print(f"wrote {manager.file}; it logs to {log_file}")
    return _all(manager.enable(), execute)


def uninstall(*, dry_run: bool, manager: Manager | None = None, execute: Execute = _execute) -> int:
    """Stop the service and remove its definition; the exit code."""
    manager = manager or this_system()
    if dry_run:
        _print_commands(manager.disable())
        print(f"would remove {manager.file}")
        return 0
    if not manager.file.exists():
        print("gena: the service is not installed.", file=sys.stderr)
        return 1
    code = _all(manager.disable(), execute)
    manager.file.unlink()
    print(f"removed {manager.file}; the log stays")
    return code


def status(*, dry_run: bool, manager: Manager | None = None, execute: Execute = _execute) -> int:
    """Say whether the service runs; the exit code, 0 where it does."""
    manager = manager or this_system()
    if dry_run:
        return _print_commands([manager.status()])
    if not manager.file.exists():
        print("not installed")
        return 1
    running = execute(manager.status()).returncode == 0
    print(f"{'running' if running else 'installed, not running'} ({manager.file})")
    return 0 if running else 1


def _all(commands: Sequence[Sequence[str]], execute: Execute) -> int:
    for command in commands:
        done = execute(command)
        if done.returncode != 0:
            reason = done.stderr.strip() or f"exit code {done.returncode}"
            print(f"gena: {' '.join(command)}: {reason}", file=sys.stderr)
            return 1
    return 0


def _print_commands(commands: Sequence[Sequence[str]]) -> int:
    for command in commands:
        print(f"would run {' '.join(command)}")
    return 0


def _systemd_quoted(text: str, *, expands: bool = True) -> str:
    """One word of a unit file; % and, in a command line, $ would be expanded."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{text.replace("$", "$$") if expands else text}"'
