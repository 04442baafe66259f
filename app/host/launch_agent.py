"""The server as a launchd agent (macOS) or a systemd user unit (Linux)."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.host.service_managers import (
    Done,
    Execute,
    Launchd,
    Manager,
    ServiceCommand,
    Step,
    Systemd,
)
from app.model.children import is_secret, module_command
from app.settings import Settings
from converter.paths import existing_folder, user_path

_ROOT = Path(__file__).resolve().parents[2]
# Where checkpoints come from; hub tokens stay in their own file.
_HUB_FOLDERS = ("HF_HOME", "HF_HUB_CACHE")
_HUB_VARIABLES = ("HF_ENDPOINT", *_HUB_FOLDERS, "HF_HUB_OFFLINE")
# How it is reached from here, as the shell knows it; curl's and Python's libraries read these.
_NETWORK_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_KEPT = frozenset((*_HUB_VARIABLES, *_NETWORK_VARIABLES))
_SECONDS_AFTER_GRACE = 10
_HIDDEN = "(hidden)"
# The password in http://user:password@mirror.example.
_USER_INFO = re.compile(r"//[^/?#\s]*@")


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
        name: value for name, value in environ.items() if name.startswith("GENA_") or name in _KEPT
    }
    kept["PYTHONPATH"] = str(_ROOT)
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
        return _print_steps(manager.enable())
    refusal = _refusal(manager, settings, log_file, execute)
    if refusal:
        print(f"gena: {refusal}", file=sys.stderr)
        return 1
    if is_installed(manager, execute):
        # An agent that runs keeps its old definition until it is unloaded.
        for step in manager.disable():
            step.run(execute)
    manager.log_file.parent.mkdir(parents=True, exist_ok=True)
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    # It may hold the API key: nobody else reads it, from its first byte on.
    manager.file.unlink(missing_ok=True)
    descriptor = os.open(manager.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(manager.definition(command))
    print(f"wrote {manager.file}; it logs to {log_file}")
    return _all(manager.enable(), execute)


def _refusal(manager: Manager, settings: Settings, log_file: Path, execute: Execute) -> str | None:
    """Why the service could not run; None: nothing is known against it."""
    for path in _paths(settings, log_file):
        if any(path.is_relative_to(folder) for folder in manager.closed_folders):
            return (
                f"macOS does not let a service read {path}: not in Documents, Desktop, Downloads, "
                "folders of a cloud, nor on other disks. Move it, for example into a folder of "
                "your own in your home, and install again."
            )
    if manager.session().run(execute).returncode != 0:
        return (
            "There is no session of yours for a service to belong to. On a Mac, log in at the "
            "screen first (over ssh alone there is none); on Linux, see loginctl enable-linger."
        )
    return None


def _paths(settings: Settings, log_file: Path) -> Iterator[Path]:
    """Everything that the service opens: this program, what it serves, and its log."""
    yield from (_ROOT, Path(sys.prefix))
    hub = (Path(os.environ[name]) for name in _HUB_FOLDERS if os.environ.get(name))
    served = (existing_folder(settings.model), settings.bundle, settings.bundles)
    for path in (log_file, *served, *hub):
        if path is not None:
            yield from (path.absolute(), path.resolve())  # a link, and what it leads to


def uninstall(*, dry_run: bool, manager: Manager | None = None, execute: Execute = _execute) -> int:
    """Stop the service and remove its definition; the exit code."""
    manager = manager or this_system()
    if dry_run:
        _print_steps(manager.disable())
        print(f"would remove {manager.file}")
        return 0
    if not is_installed(manager, execute):
        print("gena: the service is not installed.", file=sys.stderr)
        return 1
    code = _all(manager.disable(), execute)
    manager.file.unlink(missing_ok=True)
    print(f"removed {manager.file}; the log stays")
    return code


def status(*, dry_run: bool, manager: Manager | None = None, execute: Execute = _execute) -> int:
    """Say whether the service runs; the exit code, 0 where it does."""
    manager = manager or this_system()
    if dry_run:
        return _print_steps([manager.status()])
    if not manager.file.exists():
        print("not installed")
        return 1
    running = manager.is_running(manager.status().run(execute))
    print(f"{'running' if running else 'installed, not running'} ({manager.file})")
    return 0 if running else 1


def is_installed(manager: Manager, execute: Execute = _execute) -> bool:
    """It has a definition, or goes on without: launchd keeps one whose file somebody removed."""
    return manager.file.exists() or manager.status().run(execute).returncode == 0


def _all(steps: Sequence[Step], execute: Execute) -> int:
    for step in steps:
        done = step.run(execute)
        if done.returncode != 0:
            reason = done.stderr.strip() or f"exit code {done.returncode}"
            print(f"gena: {' '.join(step.command)}: {reason}", file=sys.stderr)
            return 1
    return 0


def _print_steps(steps: Sequence[Step]) -> int:
    for step in steps:
        print(f"would run {' '.join(step.command)}")
    return 0
