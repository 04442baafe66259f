"""What coremltools leaves out while it converts is nothing that shows in a package."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from coremltools.converters.mil import Builder

from converter.conversion import build
from converter.conversion.build import PackagePlan, build_package
from converter.options import BuildOptions
from converter.package.reader import load_program
from tests.support.fp16_networks import make_reference


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    Builder.name_count.clear()
    yield


def test_hurrying_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that holds a number beyond fp16 as well: what takes it stays in fp32."""
    reference = make_reference()
    weight = reference.encoder.layer[0].output.dense.weight
    weight[0, 0] = 1e5
    files = {}
    for name in ("hurried", "unhurried"):
        package = tmp_path / f"{name}.mlpackage"
        build_package(reference, BuildOptions(), PackagePlan(), package, lengths=(16,))
        files[name] = {
            file.relative_to(package): file.read_bytes()
            for file in package.rglob("*")
            if file.is_file()
        }
        monkeypatch.setattr(build, "hurrying", unhurried)
    assert files["hurried"] == files["unhurried"]
    convolutions = [
        operation.outputs[0].type.dtype
        for operation in load_program(package).functions["main"].operations
        if operation.type == "conv"
    ]
    assert convolutions.count("fp32") == 1
