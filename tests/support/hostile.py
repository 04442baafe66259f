"""Checkpoints that nobody meant well, and how they must be refused."""

import json
import shutil
import struct
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from converter.cli import main
from tools.seeded_checkpoints import make_tokenizer

BIN, SAFETENSORS = "pytorch_model.bin", "model.safetensors"
# Far above what a refusal takes, far below what a hostile file would have taken.
_PATIENCE_SECONDS = 30


def refusal(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Convert a checkpoint that cannot be: the one sentence in which that is said."""
    output = checkpoint.with_name("bundle")
    begun = time.monotonic()
    arguments = ["convert", "--model", str(checkpoint), "--output", str(output)]
    status = main([*arguments, "--progress", "none"])
    assert time.monotonic() - begun < _PATIENCE_SECONDS
    assert not output.exists()
    return sentence(status, capfd)


def sentence(status: int, capfd: pytest.CaptureFixture[str]) -> str:
    """What a command that ended so said: one printable line, no novel."""
    shown = capfd.readouterr()
    assert status == 1, shown.err
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.isprintable(), ascii(line)
    assert line.startswith("error: ")
    assert len(line) < 600
    return line


def write_json(file: Path, **changes: Any) -> None:
    """Change keys of an object's file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def copy_of(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint to spoil."""
    return shutil.copytree(checkpoint, folder / "checkpoint")


def write_archive(
    file: Path, pickled: bytes, data: Mapping[str, bytes] | None = None, **how: Any
) -> None:
    """An archive as PyTorch writes it, around a pickle that it would not write."""
    with zipfile.ZipFile(file, "w", **how) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        for name, content in (data or {}).items():
            archive.writestr(f"archive/{name}", content)


def write_safetensors(file: Path, header: bytes | Mapping[str, Any], data: bytes = b"") -> None:
    """A file of this header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def imported(module: str, name: str) -> bytes:
    """The instruction of a pickle that imports something."""
    return f"c{module}\n{name}\n".encode()


def number(value: int) -> bytes:
    """The instruction of a pickle for a number of 64 bits."""
    return b"\x8a\x08" + struct.pack("<q", value)


def rebuilt(stored: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The instructions of a pickle for a tensor on the data "0" of so many floats."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(X\x07\0\0\0storage"
        + imported("torch", "FloatStorage")
        + b"X\x01\0\0\x000X\x03\0\0\0cpu"
        + number(stored)
        + b"tQ"
    )
    ordered = imported("collections", "OrderedDict") + b")R"
    arguments = storage + number(0) + numbers(size) + numbers(stride) + b"\x89" + ordered
    return imported("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def state_dict_of(**values: bytes) -> bytes:
    """A pickle of a dict whose values are these instructions."""
    items = b"".join(
        b"X" + struct.pack("<I", len(name)) + name.encode() + value + b"s"
        for name, value in values.items()
    )
    return b"\x80\x02}" + items + b"."


def tensors_of(checkpoint: Path) -> dict[str, Tensor]:
    """The file's tensors, read without the converter."""
    loaded: dict[str, Tensor] = torch.load(checkpoint / BIN, weights_only=True)
    return loaded


def panicking_tokenizer() -> Tokenizer:
    """The library's, with a pattern on which its regex engine gives up, in a panic of its code."""
    raw = json.loads(make_tokenizer().to_str())
    pattern = {"Regex": "^([ACGT]+)+N$"}
    raw["normalizer"] = {"type": "Replace", "pattern": pattern, "content": "-"}
    return Tokenizer.from_str(json.dumps(raw))
