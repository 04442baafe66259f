"""The `gena` command: what the converter has, and the service.

What takes a while to import is imported where it is used: until `main` runs, Ctrl-C is a traceback.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from converter.importing import large_imports
from converter.interrupts import ending_at_once

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from app.settings import Settings

# The settings that are options too; the environment has them all.
SETTING_OPTIONS = (
    "model",
    "revision",
    "bundle",
    "host",
    "port",
    "runtime",
    "compute_units",
    "threads",
    "log_format",
    "log_level",
    "log_file",
)


# Those of them that say what computes.
_MODEL_OPTIONS = ("model", "revision", "bundle", "runtime", "compute_units", "threads")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of the process."""
    argv = sys.argv[1:] if argv is None else argv
    with ending_at_once():
        from converter.cli import run_command

        arguments = _parse(argv)
    return run_command(arguments)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    from converter.cli import add_commands
    from converter.versions import own_version

    parser = argparse.ArgumentParser(
        prog="gena", description="DNA to GENA-LM features, run by Core ML."
    )
    version = f"gena-coreml {own_version()}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_commands(commands)
    # Options only for the command that is run: they are made of the settings, which take a while
    # to import.
    command = argv[0] if argv else None
    _add_serve(commands, with_options=command == "serve")
    _add_service(commands, with_options=command == "service")
    _add_doctor(commands, with_options=command == "doctor")
    _add_embed(commands, with_options=command == "embed")
    if not argv:
        parser.print_help(sys.stderr)
        parser.exit(2)
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        words = " ".join(rest)
        parser.error(f"unrecognized arguments: {words}{_meant(arguments, rest)}")
    return arguments


def _meant(arguments: argparse.Namespace, rest: Sequence[str]) -> str:
    """What people mean who give too much."""
    if any(word.startswith("-") for word in rest):
        return ""
    if hasattr(arguments, "model") and not hasattr(arguments, "input"):
        return f". (A model: --model {shlex.quote(rest[0])})"
    if arguments.func is _embed and arguments.input:
        files, output = shlex.join([arguments.input, *rest]), shlex.quote(arguments.output)
        return f". One file, or all as one: cat {files} | gena embed - -o {output}"
    return ""


def _add_serve(commands: Any, *, with_options: bool) -> None:
    parser = commands.add_parser(
        "serve",
        help="answer DNA with features over HTTP",
        description="Serve a model on this machine; it is converted first where that is needed. "
        "Every setting can be given as GENA_* in the environment; options win.",
    )
    if with_options:
        _add_setting_options(parser)
    parser.set_defaults(func=_serve)


def _add_service(commands: Any, *, with_options: bool) -> None:
    parser = commands.add_parser(
        "service",
        help="run the server for good, from login on",
        description="A launchd agent on macOS, a systemd user unit on Linux.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    install = actions.add_parser(
        "install",
        help="write the agent and start it",
        description="Options and the GENA_* and HF_* variables of this shell (tokens of the hub "
        "excepted) are written into the agent, which only you can read.",
    )
    if with_options:
        _add_setting_options(install)
    for action, text in (("uninstall", "stop it and remove the agent"), ("status", "is it on?")):
        actions.add_parser(action, help=text).set_defaults(func=_service, action=action)
    install.set_defaults(func=_service, action="install")
    for action in actions.choices.values():
        action.add_argument("--dry-run", action="store_true", help="print it, change nothing")


def _add_doctor(commands: Any, *, with_options: bool) -> None:
    parser = commands.add_parser(
        "doctor",
        help="try the whole product on this machine, and write a report of it",
        description="Machine, installation, tests, conversion, every choice of compute units, the "
        "service under load, its restart, and the launch agent: what fails does not stop the rest. "
        "Takes half an hour or more. The report holds no paths, names or DNA, and can go into a "
        "bug report. Where there is no Core ML, a stand-in executes the package.",
    )
    if with_options:
        from app.doctor.command import add_options

        add_options(parser)
    parser.set_defaults(func=_doctor)


def _add_embed(commands: Any, *, with_options: bool) -> None:
    parser = commands.add_parser(
        "embed",
        help="embed the records or windows of a file, as Parquet",
        description="A vector for every record of a file, for windows along a genome, or for the "
        "intervals of a BED file, in shards of Parquet; the same command goes on where it was "
        "ended. Coordinates are 0-based and half-open. Every setting of the model can be given as "
        "GENA_* in the environment; options win. Exit status: 0 done, 2 usage, 3 input, 75 try "
        "again, 130 interrupted and resumable.",
    )
    if with_options:
        from app.embed.command import add_options

        add_options(parser)
        _add_setting_options(parser.add_argument_group("the model"), _MODEL_OPTIONS)
    parser.set_defaults(func=_embed)


def _add_setting_options(parser: Any, names: Sequence[str] = SETTING_OPTIONS) -> None:
    from app.settings import Settings

    for name in names:
        field = Settings.model_fields[name]
        parser.add_argument(f"--{name.replace('_', '-')}", help=_help(field), **_values(field))


def _help(field: "FieldInfo") -> str:
    default = "" if field.default is None else f" Default: {field.default}."
    return f"{field.description}{default}".replace("%", "%%")


def _values(field: "FieldInfo") -> dict[str, Any]:
    """What an option takes: one of its `choices`, or a `type`; `int | None` is an int."""
    if get_origin(field.annotation) is Literal:
        return {"choices": get_args(field.annotation)}
    types = get_args(field.annotation) or (field.annotation,)
    return {"type": next(each for each in types if each is not NoneType)}


def _settings(arguments: argparse.Namespace) -> "Settings | None":
    """Environment and options as settings; None after what is wrong has been said."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**_given(arguments))
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            print(f"gena: GENA_{name.upper()}: {problem['msg']}", file=sys.stderr)
        return None


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name, None) for name in SETTING_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def _serve(arguments: argparse.Namespace) -> int:
    with ending_at_once():  # until the server takes the signals over
        return _start_serving(arguments)


def _start_serving(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    if settings is None:
        return 2
    from app.host.listening import CannotListenError, bind

    try:
        # Before the slow imports: connections that come now wait and are answered.
        listeners = bind(settings.host, settings.port)
    except CannotListenError as error:
        print(f"gena: {error}", file=sys.stderr)
        return 1
    from app.host.logs import configure_logging

    try:
        configure_logging(settings)
    except OSError as error:
        print(f"gena: cannot log to {settings.log_file}: {error.strerror}.", file=sys.stderr)
        return 1
    with large_imports():
        from app.host.gate import warn_if_open
        from app.host.server import serve
        from app.main import create_app

    warn_if_open(listeners[0].getsockname()[0], settings)
    # As a service it stays, and /health says what is wrong: others would start it again and again.
    failure = serve(create_app(settings), settings, listeners, for_a_person=sys.stderr.isatty())
    if failure is None:
        return 0
    logging.shutdown()  # so that the reason is the last line
    print(f"gena: {failure.message} {failure.advice}", file=sys.stderr)
    return 1


def _doctor(arguments: argparse.Namespace) -> int:
    with ending_at_once():
        from app.doctor.command import run

    return run(arguments)


def _embed(arguments: argparse.Namespace) -> int:
    with ending_at_once():
        with large_imports():
            from app.embed.command import run

        settings = _settings(arguments)
    return 2 if settings is None else run(arguments, settings)


def _service(arguments: argparse.Namespace) -> int:
    from app.host import launch_agent

    if arguments.action != "install":
        act = {"uninstall": launch_agent.uninstall, "status": launch_agent.status}
        return act[arguments.action](dry_run=arguments.dry_run)
    settings = _settings(arguments)
    if settings is None:
        return 2
    return launch_agent.install(settings, _given(arguments), dry_run=arguments.dry_run)


if __name__ == "__main__":
    sys.exit(main())
