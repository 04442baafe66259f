"""Conversion of a checkpoint in a child process, whose memory goes back to the system."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from app.model.children import (
    HUB_PREFIXES,
    gone,
    kill_child,
    lines,
    log_lines,
    module_command,
    signal_child,
    start_child,
)
from converter.checkpoint.files import SmallFiles

logger = logging.getLogger("gena.conversion")

CONVERT_COMMAND = module_command("converter", "convert", "--progress", "json")
_INTERRUPTS, _INTERRUPT_SECONDS = 6, 2.0

OnProgress = Callable[[str, float, str], None]
OnDescribed = Callable[[SmallFiles], Awaitable[None]]


class ConversionError(Exception):
    """The checkpoint could not be converted.

    Attributes:
        code: the converter's dotted code, or conversion.died.
        may_pass: the same may succeed later without anybody's doing.
    """

    def __init__(self, code: str, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.may_pass = may_pass


async def convert(
    model: str,
    revision: str | None,
    output: Path,
    on_progress: OnProgress,
    on_described: OnDescribed,
    command: Sequence[str] = CONVERT_COMMAND,
) -> None:
    """Convert and publish a bundle. When this is cancelled, the child is ended first.

    Args:
        on_progress: called with stage, fraction (0 to 1) and a message.
        on_described: awaited once the converter has checked configuration and tokenizer.

    Raises:
        ConversionError: the converter refused, or its process died.
    """
    # With "=", a value that begins with a dash stays a value.
    options = [f"--model={model}", f"--output={output}"]
    if revision is not None:
        options.append(f"--revision={revision}")
    try:
        process = await start_child(
            [*command, *options], stdout=asyncio.subprocess.PIPE, secrets=HUB_PREFIXES
        )
    except OSError as error:
        raise ConversionError(
            "conversion.died", f"The converter cannot be started ({error.strerror})."
        ) from error
    assert process.stdout is not None
    assert process.stderr is not None
    logger.info("conversion started", extra={"pid": process.pid})
    stderr = asyncio.create_task(log_lines(process.stderr, logger))
    try:
        last = await _read_progress(process.stdout, on_progress, on_described)
        await gone(process, stderr)
    finally:
        await _end(process)
        ended = await gone(process, stderr)
    if "error" in last:
        told = last["error"]
        raise ConversionError(told["code"], told["message"], may_pass=told["may_pass"])
    if process.returncode != 0 or "bundle" not in last:
        raise ConversionError(
            "conversion.died",
            f"The process that converts {model} ended ({ended}) before it was done. The log has "
            "what it wrote last.",
        )


async def _read_progress(
    stream: asyncio.StreamReader, on_progress: OnProgress, on_described: OnDescribed
) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async for line in lines(stream):
        match _parse(line):
            case {"stage": stage, "fraction": fraction, "message": message}:
                on_progress(stage, fraction, message)
            case {
                "described": {
                    "source": str(source),
                    "commit": str() | None as commit,
                    "config": str(config),
                    "tokenizer": str(tokenizer),
                }
            }:
                await on_described(SmallFiles(source, commit, Path(config), Path(tokenizer)))
            case {"error": {"code": _, "message": _, "may_pass": _}} | {"bundle": _} as last:
                pass
            case _:
                logger.warning("not progress: %s", line.decode(errors="replace").strip()[:200])
    return last


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


async def _end(process: asyncio.subprocess.Process) -> None:
    """An interrupt lets the converter remove the folder that it builds in; else it is killed.

    More than one, because an interrupt that arrives in a callback of a library is lost. What a
    killed build leaves is swept by the next one.
    """
    for _ in range(_INTERRUPTS):
        if process.returncode is not None:
            return
        signal_child(process, signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                await process.wait()
    if process.returncode is None:
        logger.warning("the converter does not heed interrupts and is killed")
        kill_child(process)
