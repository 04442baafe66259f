"""Weights of strangers: refused in a sentence, with nothing of them run and nothing huge built."""

import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from converter.checkpoint.tensors import read_tensors
from converter.errors import CheckpointError
from tests.support.hostile import (
    BIN,
    SAFETENSORS,
    copy_of,
    imported,
    number,
    rebuilt,
    refusal,
    state_dict_of,
    tensors_of,
    write_archive,
    write_json,
    write_safetensors,
)

QUERY = "bert.encoder.layer.1.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"
ZEROS = {"data/0": bytes(16)}
Spoil = Callable[[Path], Any]


class Runs:
    """Unpickled by a careless loader, it makes a call."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def query(change: Callable[[Tensor], Any]) -> Spoil:
    """A matrix of the encoder, changed."""

    def spoil(checkpoint: Path) -> None:
        tensors = tensors_of(checkpoint)
        torch.save({**tensors, QUERY: change(tensors[QUERY])}, checkpoint / BIN)

    return spoil


def more(**values: Tensor) -> Spoil:
    return lambda checkpoint: torch.save({**tensors_of(checkpoint), **values}, checkpoint / BIN)


def saved(content: Any) -> Spoil:
    return lambda checkpoint: torch.save(content, checkpoint / BIN)


def pickled(instructions: bytes, **how: Any) -> Spoil:
    return lambda checkpoint: write_archive(checkpoint / BIN, instructions, ZEROS, **how)


def one(value: bytes) -> Spoil:
    return pickled(state_dict_of(a=value))


def written(content: bytes) -> Spoil:
    return lambda checkpoint: (checkpoint / BIN).write_bytes(content)


def header_only(content: bytes) -> Spoil:
    return lambda checkpoint: (checkpoint / SAFETENSORS).write_bytes(content)


def header(content: Any, data: bytes = b"") -> Spoil:
    return lambda checkpoint: write_safetensors(checkpoint / SAFETENSORS, content, data)


def entry(dtype: str, shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def safe(change: Callable[[Tensor], Tensor]) -> Spoil:
    def spoil(checkpoint: Path) -> None:
        tensors = {n: t.clone() for n, t in tensors_of(checkpoint).items()}
        save_file({**tensors, QUERY: change(tensors[QUERY])}, checkpoint / SAFETENSORS)

    return spoil


def repeats_without_end(checkpoint: Path) -> None:
    """One number, seen as a vocabulary of ten million tokens."""
    write_json(checkpoint / "config.json", vocab_size=10**7)
    huge = torch.zeros(1).expand(10**7, 64)
    torch.save({**tensors_of(checkpoint), WORDS: huge}, checkpoint / BIN)


def pairs_of_pairs(before: bytes = b"\x80\x02}", after: bytes = b"Ns.") -> bytes:
    """A pickle with a pair of one pair twice, and so on: a hundred bytes that nobody can walk."""
    pair = b")q\0" + b"".join(b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60))
    return before + pair + after


def lists_of_lists() -> bytes:
    """The same of lists: no key, but shown in a message."""
    return b"]q\0" + b"".join(
        b"]q" + bytes([n + 1]) + (b"h" + bytes([n]) + b"a") * 2 for n in range(60)
    )


def before_2020(pickled: bytes) -> Spoil:
    """A file of five pickles, of which this is the fourth, the tensors."""
    front = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return written(b"".join(pickle.dumps(v, protocol=2) for v in front) + pickled + b"\x80\x02].")


def holds_many_pickles(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint / BIN, "w") as archive:
        for number in range(5):
            archive.writestr(f"archive/{number}.pkl", b"\x80\x02" + b"N" * 300_000 + b".")


def names_layers(checkpoint: Path) -> None:
    """A layer takes sixteen tensors, and each of these names another one."""
    write_json(checkpoint / "config.json", num_hidden_layers=48)
    named = {f"encoder.layer.{n}.x": entry("F32", [0], 0) for n in range(48)}
    write_safetensors(checkpoint / SAFETENSORS, named)


def sparse(file: Path) -> None:
    """A terabyte that takes no room."""
    file.touch()
    os.truncate(file, 2**40)


def hides_a_second_pickle(checkpoint: Path) -> None:
    """PyTorch finds names whatever their case, and the first that fits."""
    with zipfile.ZipFile(checkpoint / BIN, "w") as archive:
        archive.writestr("archive/DATA.PKL", b"\x80\x02" + imported("os", "getpid") + b")R.")
        archive.writestr("archive/data.pkl", state_dict_of())
        archive.writestr("archive/version", b"3\n")


def is_two_files_in_one(checkpoint: Path) -> None:
    """By its end an archive of nothing, by its beginning a pickle."""
    with zipfile.ZipFile(checkpoint / "end.zip", "w") as archive:
        archive.writestr("archive/data.pkl", state_dict_of())
    code = pickle.dumps(Runs(os.getpid), protocol=2)
    (checkpoint / BIN).write_bytes(code + (checkpoint / "end.zip").read_bytes())


NOT_PLAIN = r"pytorch_model.bin holds tensors that are not plain ones \(torch\.{}"
CODE = r"pytorch_model.bin is a pickle that calls Python code \({}\). It was not run"
UNREADABLE = r"{} cannot be read as weights \(.+\)"
BROKEN, SAFE = UNREADABLE.format(BIN), UNREADABLE.format(SAFETENSORS)

CASES: dict[str, tuple[Spoil, str]] = {
    "sparse": (query(Tensor.to_sparse), NOT_PLAIN.format("_utils._rebuild_sparse_tensor")),
    "sparse rows": (query(Tensor.to_sparse_csr), NOT_PLAIN.format("_utils._rebuild_sparse")),
    "meta": (query(lambda t: t.to("meta")), NOT_PLAIN.format("_utils._rebuild_meta_tensor")),
    "float8": (query(lambda t: t.to(torch.float8_e4m3fn)), NOT_PLAIN.format("_utils.")),
    "other float8": (query(lambda t: t.to(torch.float8_e5m2)), NOT_PLAIN.format("_utils.")),
    "complex": (query(lambda t: t.to(torch.complex64)), NOT_PLAIN.format("ComplexFloatStorage")),
    "quantized": (
        query(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        NOT_PLAIN.format("_utils._rebuild_qtensor"),
    ),
    "nested": (query(lambda t: torch.nested.nested_tensor([t])), NOT_PLAIN.format("")),
    "bool": (query(Tensor.bool), "query.weight holds bool; weights are float32"),
    "integers": (query(Tensor.long), "query.weight holds int64; weights are float32"),
    "beyond fp32": (query(lambda t: t.double() * 1e300), "query.weight .* not finite"),
    "no numbers": (query(lambda t: t[:0]), r"query.weight has the shape \(0, 64\)"),
    "no tensor": (query(lambda _: None), "not a plain state dict"),
    "an array": (query(Tensor.numpy), CODE.format(r"numpy\.\S+")),
    "a number": (query(lambda _: np.float32(1)), CODE.format(r"numpy\.\S+")),
    "repeats": (repeats_without_end, "encoder weights are larger than the file"),
    "keys of numbers": (saved({1: torch.zeros(2)}), "not a plain state dict"),
    "keys of tuples": (saved({("a", "b"): torch.zeros(2)}), "not a plain state dict"),
    "a list": (saved([torch.zeros(2)]), "not a plain state dict"),
    "a network in it": (saved({"model": {"a": torch.zeros(2)}}), "not a plain state dict"),
    "a module": (saved(torch.nn.Linear(1, 1)), CODE.format("torch.nn.modules.linear.Linear")),
    "a name for terminals": (saved({"\x1b[31m\n": torch.zeros(2)}), "0 encoder layers"),
    "a name without end of a tensor": (saved({"x" * 10**6: torch.zeros(2)}), "0 encoder layers"),
    "a name too many": (
        more(**{"x" * 10**6: torch.zeros(2)}),
        r"1 tensors have no place.*: x+\.\.\.",
    ),
    "a name twice": (more(**{"a\x1b[0m": torch.ones(1), "bert.a\x1b[0m": torch.ones(1)}), "twice"),
    "the system's": (
        pickled(b"\x80\x02" + imported("posix", "system") + b"X\x04\0\0\0true\x85R."),
        CODE.format("posix.system"),
    ),
    "a name to be obeyed": (
        pickled(b"\x80\x02" + imported("\x1b[31mos", "system") + b")R."),
        "is a pickle that calls Python code. It was not run",
    ),
    "a name without end": (
        pickled(b"\x80\x02" + imported("a" * 10**6, "b") + b")R."),
        "calls Python code .a{20}",
    ),
    "a name from the stack": (
        pickled(b"\x80\x04\x8c\x02os\x8c\x06system\x93)R."),
        CODE.format("os.system"),
    ),
    "a name from memory": (
        pickled(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\0h\1\x93)R."),
        "is a pickle that calls Python code. It was not run",
    ),
    "a petabyte": (
        pickled(b"\x80\x02" + imported("builtins", "bytearray") + number(10**15) + b"\x85R."),
        CODE.format("builtins.bytearray"),
    ),
    "a terabyte": (
        pickled(
            b"\x80\x02" + imported("torch.storage", "UntypedStorage") + number(10**12) + b"\x85R."
        ),
        NOT_PLAIN.format("storage.UntypedStorage"),
    ),
    "two pickles": (hides_a_second_pickle, CODE.format("os.getpid")),
    "two files": (is_two_files_in_one, CODE.format("posix.getpid")),
    "more than is stored": (one(rebuilt(4, (400,), (1,))), BROKEN),
    "stored beyond the file": (one(rebuilt(10**12, (10**12,), (1,))), BROKEN),
    "backwards": (one(rebuilt(4, (4,), (-1,))), BROKEN),
    "less than nothing": (one(rebuilt(4, (-4,), (1,))), BROKEN),
    "an empty stack": (pickled(b"\x80\x02RRRR."), BROKEN),
    "no end": (pickled(b"\x80\x02}"), BROKEN),
    "an empty memory": (pickled(b"\x80\x02h\x05."), BROKEN),
    "no instruction": (pickled(b"\x80\x02\xff."), BROKEN),
    "a list for a key": (pickled(b"\x80\x02}]Ns."), BROKEN),
    "built of a text": (pickled(b"\x80\x02}X\1\0\0\0aX\1\0\0\0bb."), BROKEN),
    "a deep list": (pickled(b"\x80\x02" + b"]" * 10**4 + b"a" * (10**4 - 1) + b"."), "state dict"),
    "a deep key": (pickled(b"\x80\x02})" + b"\x85" * 10**4 + b"Ns."), "state dict"),
    "many long pickles": (holds_many_pickles, "far too long"),
    "safe: many tensors": (
        header({f"t{n}": entry("F32", [0], 0) for n in range(20_000)}),
        r"safetensors cannot be read as weights \(its list of tensors is far too long\)",
    ),
    "a key without end": (pickled(pairs_of_pairs()), BROKEN),
    "a key without end in another": (
        pickled(pairs_of_pairs(b"\x80\x02" + imported("collections", "OrderedDict") + b")R")),
        BROKEN,
    ),
    "a key without end before 2020": (before_2020(pairs_of_pairs()), BROKEN),
    "a type without end": (pickled(pairs_of_pairs(b"\x80\x02(", b"NNNNtQ.")), BROKEN),
    "a type of lists without end": (
        pickled(b"\x80\x02(" + lists_of_lists() + b"NNNNtQ."),
        BROKEN,
    ),
    "a dict in itself": (pickled(b"\x80\x02}q\0X\1\0\0\0ah\0s."), BROKEN),
    "a long pickle": (pickled(b"\x80\x02" + b"N0" * 4_000_000 + b"}."), "far too long"),
    "packed": (
        pickled(state_dict_of(**{"a" * 10**6: b"N"}), compression=zipfile.ZIP_DEFLATED),
        "unpacks to more than it is",
    ),
    "an empty file": (written(b""), BROKEN),
    "text": (written(b"<!DOCTYPE html>" * 100), "is a web page"),
    "a large-file pointer": (
        written(b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "safe: float8": (safe(lambda t: t.to(torch.float8_e4m3fn)), "holds float8_e4m3fn; weights"),
    "safe: other float8": (safe(lambda t: t.to(torch.float8_e5m2)), "holds float8_e5m2; weights"),
    "safe: complex": (safe(lambda t: t.to(torch.complex64)), "holds complex64; weights"),
    "safe: bool": (safe(Tensor.bool), "holds bool; weights"),
    "safe: unknown": (header({"a": entry("F4_ODD", [1], 4)}, bytes(4)), SAFE),
    "safe: four bits": (header({"a": entry("F4", [2], 1)}, bytes(1)), "0 encoder layers"),
    "safe: beyond": (header({"a": entry("F32", [10**12], 4 * 10**12)}, bytes(4)), SAFE),
    "safe: overflow": (header({"a": entry("F32", [2**63, 2**63], 4)}, bytes(4)), SAFE),
    "safe: overlap": (header(dict.fromkeys("ab", entry("F32", [1], 4)), bytes(4)), SAFE),
    "safe: a hole": (header({"a": entry("F32", [1], 4)}, bytes(8)), SAFE),
    "safe: below nothing": (header({"a": entry("F32", [-1], 4)}, bytes(4)), SAFE),
    "safe: deep": (header(b'{"a":' + b"[" * 10**5), SAFE),
    "safe: layers by name": (names_layers, "holds 3 encoder layers.* is 48"),
    "safe: a terabyte": (lambda c: sparse(c / SAFETENSORS), r"safetensors is larger than the \d+"),
    "a terabyte of zeros": (lambda c: sparse(c / BIN), r"bin is larger than the \d+ bytes"),
    "safe: no header": (header_only(b""), SAFE),
    "safe: a long header": (header_only(struct.pack("<Q", 2**60)), SAFE),
    "safe: not a tensor": (header({"a": entry("F32", [0, 10**9], 0)}), "0 encoder layers"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, on what it thinks of such tensors
@pytest.mark.parametrize(("spoil", "fault"), CASES.values(), ids=CASES)
def test_weights_are_refused_in_a_sentence(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Spoil,
    fault: str,
) -> None:
    checkpoint = copy_of(tiny_checkpoint, tmp_path)
    spoil(checkpoint)
    said = refusal(checkpoint, capfd)
    assert re.search(fault, said), said
    # The library's way out of a pickle with code is to trust it.
    assert not re.search("trust the source|weights_only|safe_globals", said)


@pytest.mark.parametrize("how", ["archive", "before 2020", "pickle", "pickle of protocol 2"])
def test_no_code_of_a_pickle_is_run(tmp_path: Path, how: str) -> None:
    canary = tmp_path / "canary"
    file = tmp_path / BIN
    content = {"a": Runs(os.mkdir, str(canary))}
    if how.startswith("pickle"):
        file.write_bytes(pickle.dumps(content, protocol=2 if "2" in how else None))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "archive")
    with pytest.raises(CheckpointError, match=CODE.format("posix.mkdir")):
        read_tensors(file, "bert.")
    assert not canary.exists()
    # It works: what runs it is not this reader.
    with file.open("rb") as stream:
        if how.startswith("pickle"):
            pickle.load(stream)  # noqa: S301 - written above
        else:
            torch.load(stream, weights_only=False)
    assert canary.exists()


def test_a_file_cannot_hide_the_methods_of_its_dict(tmp_path: Path) -> None:
    ordered = imported("collections", "OrderedDict") + b")R"
    item = b"X\1\0\0\0a" + rebuilt(4, (4,), (1,)) + b"s"
    hiding = b"}X\5\0\0\0itemsNsX\4\0\0\0keysNsb"
    write_archive(tmp_path / BIN, b"\x80\x02" + ordered + item + hiding + b".", ZEROS)
    assert torch.equal(read_tensors(tmp_path / BIN, "bert.")["a"], torch.zeros(4))


@pytest.mark.parametrize("archive", [True, False])
def test_what_published_files_hold_is_read(tmp_path: Path, archive: bool) -> None:
    """Other precisions, parameters, views, shared numbers, and what `state_dict()` adds."""
    base = torch.randn(6, 4)
    network = torch.nn.Linear(4, 2, bias=False)
    tensors = OrderedDict(network.state_dict())
    tensors |= {
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "parameter": torch.nn.Parameter(base),
        "view": base[2:].T,
        "tied": base,
        "position_ids": torch.arange(4).expand(1, -1),
        "mask": torch.ones(2, dtype=torch.bool),
    }
    tensors._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    torch.save(tensors, tmp_path / BIN, _use_new_zipfile_serialization=archive)
    found = read_tensors(tmp_path / BIN, "bert.")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert not any(tensor.requires_grad for tensor in found.values())
