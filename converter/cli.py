"""The converter's commands: `gena convert`, `verify`, `inspect`, `tune`."""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from converter.commands import convert, inspect_, tune, verify
from converter.commands.command_line import Subparsers
from converter.errors import GenaError
from converter.interrupts import Interrupted, ending_at_once


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m converter`."""
    with ending_at_once():
        parser = argparse.ArgumentParser(prog="python -m converter", description=__doc__)
        add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
        parsed = parser.parse_args(arguments)
    return run_command(parsed)


def run_command(parsed: argparse.Namespace) -> int:
    """Run a parsed command: expected failures become one sentence and exit status 1."""
    try:
        status: int = parsed.func(parsed)
    except GenaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        with suppress(OSError):  # the terminal may be gone
            print("interrupted; nothing was published", file=sys.stderr)
        return interrupt.status if isinstance(interrupt, Interrupted) else 128 + signal.SIGINT
    return status


def add_commands(subparsers: Subparsers) -> None:
    """Register the commands; each sets `func(args) -> exit status`."""
    for command in (convert, verify, inspect_, tune):
        command.add_command(subparsers)
