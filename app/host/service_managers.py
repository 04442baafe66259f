"""The systems that keep a service running: launchd (macOS) and systemd (Linux)."""

import plistlib
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

LABEL = "gena-coreml"
_PAUSE_SECONDS = 0.5

Done: TypeAlias = subprocess.CompletedProcess[str]
Execute: TypeAlias = Callable[[Sequence[str]], Done]


@dataclass(frozen=True)
class ServiceCommand:
    """What the system is told to keep running."""

    arguments: list[str]
    environment: dict[str, str]
    stop_seconds: int


@dataclass(frozen=True)
class Step:
    """A command of the system.

    Attributes:
        fine: exit codes that are as good as 0.
        again: exit codes after which it is tried again, for `seconds`.
    """

    command: list[str]
    fine: frozenset[int] = frozenset()
    again: frozenset[int] = frozenset()
    seconds: float = 0.0

    def run(self, execute: Execute) -> Done:
        """Run it until that is decided; the return code is 0 where all is well."""
        deadline = time.monotonic() + self.seconds
        while True:
            done = execute(self.command)
            if done.returncode in self.fine:
                return Done(done.args, 0, done.stdout, done.stderr)
            if done.returncode not in self.again:
                return done
            if time.monotonic() > deadline:
                reason = done.stderr.strip() or f"still so after {self.seconds:g} s"
                return Done(done.args, done.returncode or 1, done.stdout, reason)
            time.sleep(_PAUSE_SECONDS)


# The last two are iCloud Drive, and what Dropbox, OneDrive and the like mount.
_CLOSED_AT_HOME = (
    *("Documents", "Desktop", "Downloads"),
    *("Library/Mobile Documents", "Library/CloudStorage"),
)
_OTHER_DISKS = Path("/Volumes")
# What launchctl exits with: errno of the service, or a code of its own.
_NO_SUCH_PROCESS, _INPUT_OUTPUT_ERROR, _IN_PROGRESS, _ALREADY = 3, 5, 36, 37
_NO_SUCH_SERVICE = 113


class Launchd:
    """An agent in ~/Library/LaunchAgents: from login on, started again after a crash.

    It belongs to the graphical session of its user.
    """

    def __init__(self, home: Path, user: int) -> None:
        self.file = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.log_file = home / "Library" / "Logs" / LABEL / "gena.log"
        # macOS lets no agent read there before its owner has agreed, and asks nobody.
        self.closed_folders = (*(home / name for name in _CLOSED_AT_HOME), _OTHER_DISKS)
        self._domain = f"gui/{user}"
        self._service = f"{self._domain}/{LABEL}"

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
            # The others are held back on CPU and disk, which would slow every answer.
            "ProcessType": "Interactive",
            # What is said before the log is open, for example a port that is taken.
            "StandardErrorPath": str(self.log_file.with_name("start.log")),
        }
        return plistlib.dumps(agent)

    def enable(self) -> list[Step]:
        """Start it now and at every login."""
        busy = frozenset({_INPUT_OUTPUT_ERROR, _IN_PROGRESS, _ALREADY})
        return [
            Step(["launchctl", "enable", self._service]),
            # For a while after a bootout it is refused.
            Step(["launchctl", "bootstrap", self._domain, str(self.file)], again=busy, seconds=15),
        ]

    def disable(self) -> list[Step]:
        """Stop it and forget it."""
        return [
            Step(
                ["launchctl", "bootout", self._service],
                fine=frozenset({_NO_SUCH_PROCESS, _IN_PROGRESS, _NO_SUCH_SERVICE}),
            ),
            # The one before returns at once; the service is gone when this knows nothing of it.
            Step(
                ["launchctl", "print", self._service],
                fine=frozenset(range(1, 256)),
                again=frozenset({0}),
                seconds=60,
            ),
        ]

    def session(self) -> Step:
        """Succeeds where there is a session for it."""
        return Step(["launchctl", "print", self._domain])

    def status(self) -> Step:
        """Tells what `is_running` understands."""
        return Step(["launchctl", "print", self._service])

    def is_running(self, status: Done) -> bool:
        """It may be loaded, and wait to be started again."""
        state = re.search(r"^\s*state = (.*)$", status.stdout, re.MULTILINE)
        return status.returncode == 0 and state is not None and state[1].strip() == "running"


class Systemd:
    """A user unit: from login on (from boot on with lingering), restarted after a crash."""

    def __init__(self, home: Path, config_home: Path | None = None) -> None:
        self.file = (config_home or home / ".config") / "systemd" / "user" / f"{LABEL}.service"
        self.log_file = home / ".local" / "state" / LABEL / "gena.log"
        self.closed_folders: tuple[Path, ...] = ()

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

    def enable(self) -> list[Step]:
        """Start it now and at every login."""
        return [
            Step(["systemctl", "--user", "daemon-reload"]),
            Step(["systemctl", "--user", "enable", "--now", f"{LABEL}.service"]),
        ]

    def disable(self) -> list[Step]:
        """Stop it and forget it."""
        return [Step(["systemctl", "--user", "disable", "--now", f"{LABEL}.service"])]

    def session(self) -> Step:
        """Succeeds where there is a session for it."""
        return Step(["systemctl", "--user", "show-environment"])

    def status(self) -> Step:
        """Tells what `is_running` understands."""
        return Step(["systemctl", "--user", "is-active", f"{LABEL}.service"])

    def is_running(self, status: Done) -> bool:
        """Nothing is waiting to be started."""
        return status.returncode == 0


Manager: TypeAlias = Launchd | Systemd


def _systemd_quoted(text: str, *, expands: bool = True) -> str:
    """One word of a unit file; % and, in a command line, $ would be expanded."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{text.replace("$", "$$") if expands else text}"'
