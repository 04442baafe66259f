"""What the server makes of the converter's process, whatever that says and leaves behind."""

import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from app.model.conversion import ConversionError, convert
from converter.checkpoint.files import SmallFiles
from tests.support.scenarios import is_running, scenario

DONE = '{"bundle": "here", "fingerprint": "0"}'


async def said(script: str, folder: Path) -> list[tuple[object, ...]]:
    """What a converter tells that is a script; it finds `say`, which prints a line."""
    heard: list[tuple[object, ...]] = []
    command = [
        sys.executable,
        "-c",
        f"import functools; say = functools.partial(print, flush=True)\n{script}",
    ]

    async def on_described(files: SmallFiles) -> None:
        heard.append(("described", files))

    await convert(
        "lab/model", None, folder / "out", lambda *each: heard.append(each), on_described, command
    )
    return heard


@scenario
async def test_what_is_no_progress_is_passed_over(tmp_path: Path) -> None:
    lines = [
        "5",
        "null",
        "[]",
        '"stage"',
        "{",
        "{}",
        '{"stage": "fetch"}',
        '{"error": "no object"}',
        "[" * 5000,
        '{"described": {"source": "lab/model", "config": "c", "tokenizer": "t"}}',
        '{"described": {"source": "lab/model", "commit": 1, "config": "c", "tokenizer": "t"}}',
        '{"stage": "fetch", "fraction": 0.5, "message": "Fetching"}',
        DONE,
        "a library says goodbye",
    ]
    heard = await said(f"for line in {lines!r}: say(line)", tmp_path)
    assert heard == [("fetch", 0.5, "Fetching")]


@scenario
async def test_where_the_tokenizer_lies_is_heard(tmp_path: Path) -> None:
    line = '{"described": {"source": "lab/model", "commit": "a1", "config": "c", "tokenizer": "t"}}'
    heard = await said(f"say({line!r}); say({DONE!r})", tmp_path)
    assert heard == [("described", SmallFiles("lab/model", "a1", Path("c"), Path("t")))]


@scenario
async def test_a_line_may_be_of_any_length_and_end_as_progress_bars_do(tmp_path: Path) -> None:
    step = '{"stage": "read", "fraction": 0.5, "message": "Reading"}'
    script = f"say('x' * 10**6); say('0 %\\r100 %', end='\\r'); say({step!r}); say({DONE!r})"
    assert await said(script, tmp_path) == [("read", 0.5, "Reading")]


@scenario
async def test_what_holds_its_output_open_does_not_keep_a_conversion_going(tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    script = f"""
import subprocess, sys
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeper, stdout=subprocess.DEVNULL, start_new_session=True)
open({str(orphan)!r}, "w").write(str(child.pid))
say({DONE!r})
"""
    try:
        async with asyncio.timeout(30):
            await said(script, tmp_path)
        assert is_running(int(orphan.read_text()))
    finally:
        os.kill(int(orphan.read_text()), signal.SIGKILL)
        await asyncio.sleep(0.1)  # for the loop to see that the pipe is closed


@scenario
async def test_a_converter_that_cannot_be_started_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    with pytest.raises(ConversionError, match="temporarily unavailable") as failed:
        await said("", tmp_path)
    assert failed.value.code == "conversion.died"
