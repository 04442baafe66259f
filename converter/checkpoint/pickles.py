"""What a `.bin` file would have its reader do, looked at before it is read.

A `.bin` file is a program for a stack machine (pickle) that builds Python objects. PyTorch's reader
(`weights_only=True`) runs none of a file's own code, but it does build more than tensors: a few
bytes may ask it for a hundred gigabytes. A state dict needs very little; nothing else is read.
"""

import io
import pickle
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from converter.errors import CheckpointError, brief

# What a state dict of plain tensors is built of, as pickle names it.
_NEEDED = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}
_STORAGE = re.compile(r"torch (Float|Half|BFloat16|Double|Long|Int|Short|Char|Byte|Bool)Storage")
# What a file says of where its tensors lie: a hundred bytes or two each, so bert-large has 0.1 MB.
MOST_LIST_BYTES = 2**20
# Of the values on a stack: what holds others, beside what holds none, and names of imports.
_CONTAINER, _PLAIN, _MARK = "container", "plain", "mark"
# Before 2020 there was no archive: magic number, version, machine, tensors, names of their data.
_OLD_PICKLES = 5
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)


def is_archive(path: Path) -> bool:
    """Whether PyTorch takes a file as an archive of pickle and data, by its first bytes as it does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def require_only_tensors(path: Path) -> None:
    """Look at every instruction of a `.bin` file's pickles, and run none.

    Raises:
        CheckpointError: it would build more than plain tensors, or grow while it is read.
        Exception: it is damaged, in any of the ways that the libraries tell.
    """
    pickles = _in_archive(path) if is_archive(path) else _at_the_beginning(path)
    for name in (name for file in pickles for name in _imports(file)):
        if name not in _NEEDED and not _STORAGE.fullmatch(name):
            raise CheckpointError(_more_than_tensors(path, name))


def _in_archive(path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # PyTorch packs nothing: what is packed, or overlaps, is there to grow.
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path} unpacks to more than it is: PyTorch wrote no such file.")
        # PyTorch finds "data.pkl" whatever the case of its letters.
        pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
        if sum(entry.file_size for entry in pickles) > MOST_LIST_BYTES:
            raise CheckpointError(f"{path}: its list of tensors is far too long.")
        for entry in pickles:
            yield io.BytesIO(archive.read(entry))


def _at_the_beginning(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        beginning = io.BytesIO(file.read(MOST_LIST_BYTES))
    for _ in range(_OLD_PICKLES):
        yield beginning


def _imports(file: IO[bytes]) -> Iterator[str]:
    """All that a pickle imports, as "module name"; incomplete where it does not say so plainly.

    Raises:
        UnpicklingError: it puts a container into several places.
    """
    texts = deque(["", ""], maxlen=2)
    stack: list[str] = []
    memory: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL":
            yield " ".join(texts)
        elif opcode.name.startswith("EXT"):
            yield ""
        elif isinstance(argument, str):
            texts.append(argument)
        elif opcode.name.endswith("GET"):  # a text that was named before
            texts.append("")
        _follow(opcode, argument, stack, memory)


def _follow(
    opcode: pickletools.OpcodeInfo, argument: Any, stack: list[str], memory: dict[int, str]
) -> None:
    """Do what an instruction does, with kinds for values.

    Pairs of one pair, sixty deep, are a hundred bytes, and have no end for whoever walks them: to
    hash a key, or to show a value in a message. In a state dict, tensors and names repeat only.
    """
    name = opcode.name
    if name.endswith("PUT") or name == "MEMOIZE":
        memory[len(memory) if argument is None else argument] = stack[-1]
        return
    if name.endswith("GET"):
        if memory[argument] == _CONTAINER:
            raise pickle.UnpicklingError("it puts a container into several places")
        stack.append(memory[argument])
        return
    taken = _take(opcode, stack)
    made = _CONTAINER
    if name == "GLOBAL":
        made = str(argument)
    elif name == "MARK":
        made = _MARK
    elif _makes_plain(opcode, taken):
        made = _PLAIN
    stack += [made] * len(opcode.stack_after)


def _makes_plain(opcode: pickletools.OpcodeInfo, taken: list[str]) -> bool:
    """Whether a tensor, its data, a number or a text comes of an instruction."""
    if opcode.name == "REDUCE":
        return taken[0].startswith("torch._utils ")
    return opcode.name == "BINPERSID" or not (opcode.stack_before or opcode.name[:6] == "EMPTY_")


def _take(opcode: pickletools.OpcodeInfo, stack: list[str]) -> list[str]:
    """What an instruction takes from the stack; IndexError where that is not there."""
    singly = [kind.name for kind in opcode.stack_before]
    if "mark" in singly:
        while stack.pop() != _MARK:
            pass
        singly = singly[: singly.index("mark")]
    return [stack.pop() for _ in singly][::-1]


def _more_than_tensors(path: Path, name: str) -> str:
    module, _, attribute = name.partition(" ")
    named = _NAME.fullmatch(module) and _NAME.fullmatch(attribute)
    shown = f" ({brief(f'{module}.{attribute}', 80)})" if named else ""
    if module.startswith("torch") and re.match(r"_rebuild_|\w+Storage$", attribute):
        return f"{path} holds tensors that are not plain ones{shown}. Save them dense, as float32."
    return (
        f"{path} is a pickle that calls Python code{shown}. It was not run; weights need none. "
        "Look for the model's model.safetensors, or fetch the file from where you trust it."
    )
