"""Step: `gena service install`, and `uninstall`."""

import shutil
import socket
from collections.abc import Generator
from pathlib import Path

from app.doctor.commands import CommandError, Done, run
from app.doctor.findings import Agent
from app.doctor.serving import Connection, wait_until_ready
from app.doctor.visit import SkippedStepError, Visit
from app.host.launch_agent import is_installed, this_system
from app.model.children import module_command

_SECONDS = 180.0
# The same bundle was served before: what it needs is compiled.
_READY_SECONDS = 300.0


def examine_agent(visit: Visit) -> Generator[Agent, None, None]:
    """The agent serves on a port of its own; what was there before is left alone."""
    if not visit.on_a_mac:
        raise SkippedStepError("the launch agent is on macOS only.")
    manager = this_system()
    if is_installed(manager):
        raise SkippedStepError(
            "an agent of yours is installed, and is left alone. To try this, uninstall it first."
        )
    _, bundle = visit.bundle_to_serve()
    logs = manager.log_file.parent
    had_logs = logs.exists()
    port = _free_port()
    options = [f"--bundle={bundle.path}", f"--port={port}"]
    options.append(f"--log-file={visit.scratch / 'agent.log'}")
    found = Agent()
    try:
        visit.say("installing the launch agent")
        _require(_service(visit, "install", *options))
        found = Agent(ready_seconds=round(_wait(port, logs), 2))
        yield found
        _require(_service(visit, "status"))
    finally:
        if manager.file.exists():
            visit.say("removing the launch agent")
            removal = _service(visit, "uninstall")
        if not had_logs:
            shutil.rmtree(logs, ignore_errors=True)
    _require(removal)
    removed = not manager.file.exists() and not _answers(port)
    problems = () if removed else ("It still answers, or its file is still there.",)
    yield found.model_copy(update={"removed": removed, "problems": problems})


def _wait(port: int, logs: Path) -> float:
    try:
        return wait_until_ready(port, seconds=_READY_SECONDS)
    except CommandError as error:
        said = [log.read_text(errors="replace") for log in logs.glob("start.log")]
        last = "".join(said).strip().rpartition("\n")[2]
        raise CommandError(f"{error} {last[:300]}".strip()) from error


def _service(visit: Visit, action: str, *options: str) -> Done:
    command = module_command("app.cli", "service", action, *options)
    return run(command, visit.output(f"service-{action}"), seconds=_SECONDS)


def _require(done: Done) -> None:
    if done.returncode != 0:
        raise CommandError(f"gena service failed: {done.last_words}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    connection = Connection(port)
    try:
        return connection.ask("GET", "/health").status > 0
    except OSError:
        return False
    finally:
        connection.close()
