"""Arguments that no path, model or revision can be: a sentence from every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli import main
from tests.support.hostile import BIN, copy_of, imported, sentence, write_archive, write_json
from tests.support.paths import ROOT

QUIET = ("--progress", "none")
PATHS = {
    "nobody's home": ("~nouser/x", "no home folder"),
    "a long name": ("x" * 5000, "name too long"),
    "a long path": ("x/" * 5000, "name too long"),
    "a NUL": ("a\0b", "no text"),
    "no text": ("caf\udce9", "no text"),
}


@pytest.mark.parametrize(("path", "reason"), PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    "command",
    [
        ("convert", *QUIET, "--output", "out", "--model"),
        ("convert", *QUIET, "--model"),
        ("convert", *QUIET, "--model", "gena-mini", "--output"),
        ("verify",),
        ("inspect",),
    ],
    ids=" ".join,
)
def test_a_path_that_cannot_be_is_a_sentence(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    path: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in sentence(main([*command, path]), capfd)


@pytest.mark.parametrize(("path", "reason"), PATHS.values(), ids=PATHS)
def test_a_folder_of_bundles_that_cannot_be_is_a_sentence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    if "\0" in path:
        pytest.skip("no environment holds it")
    monkeypatch.setenv("GENA_BUNDLES", path)
    assert reason in sentence(main(["convert", *QUIET, "--model", "gena-mini"]), capfd)


@pytest.mark.parametrize("model", ["a/../b", "../a/b", "ö/ä", "a/b\x1b[31m"])
def test_a_name_that_no_model_has_is_a_sentence(
    capfd: pytest.CaptureFixture[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    status = main(["convert", *QUIET, "--model", model])
    assert "hub id" in sentence(status, capfd)


@pytest.mark.parametrize("revision", ["\ud800", "caf\udce9", "a\nb", "x" * 5000])
def test_a_revision_that_none_has_is_a_sentence(
    capfd: pytest.CaptureFixture[str], revision: str
) -> None:
    status = main(["convert", *QUIET, "--model", "lab/model", "--revision", revision])
    assert "is no revision" in sentence(status, capfd)


def test_the_command_itself_says_one_sentence(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Of a process of its own nothing else is on stderr: no traceback, no panic, no warning."""
    canary = tmp_path / "canary"
    code, regex = (copy_of(tiny_checkpoint, tmp_path / name) for name in ("code", "regex"))
    call = imported("posix", "mkdir") + b"X" + len(str(canary)).to_bytes(4, "little")
    write_archive(code / BIN, b"\x80\x02" + call + str(canary).encode() + b"\x85R.")
    pattern = {"Regex": "^([ACGT]+)+N$"}
    replace = {"type": "Replace", "pattern": pattern, "content": "-"}
    write_json(regex / "tokenizer.json", normalizer=replace)
    command = [sys.executable, "-m", "converter", "convert", *QUIET]
    output = ["--output", str(tmp_path / "out")]
    started = [
        subprocess.Popen(
            [*command, *output, "--model", str(checkpoint)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for checkpoint in (code, regex)
    ]
    ends = [(process.communicate(timeout=120), process.returncode) for process in started]
    for ((out, err), status), fault in zip(ends, ("posix.mkdir", "tokenizer.json"), strict=True):
        assert (out, status) == ("", 1)
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert fault in line
    assert not canary.exists()
