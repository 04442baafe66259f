"""Packages on disk, whole and damaged."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813

from converter.errors import GenaError, PackageError
from converter.package.inspection import inspect_package
from converter.package.reader import load_program
from tests.support.mil_packages import save_program


def _linear_package(folder: Path) -> Path:
    weight = np.ones((64, 64), np.float32)
    x = np.zeros((1, 64), np.float32)
    return save_program(folder, {"x": x}, lambda x: mb.linear(x=x, weight=weight))


def _cut_weights(package: Path) -> None:
    (weights,) = package.rglob("weight.bin")
    weights.write_bytes(weights.read_bytes()[:-1000])


def _swap_weights(package: Path) -> None:
    (weights,) = package.rglob("weight.bin")
    weights.write_bytes(bytes(weights.stat().st_size))


def _break_specification(package: Path) -> None:
    (specification,) = package.rglob("*.mlmodel")
    specification.write_bytes(b"\xff" * 100)


def _manifest(text: str) -> Callable[[Path], object]:
    return lambda package: (package / "Manifest.json").write_text(text)


def _leads_to(path: str) -> Callable[[Path], object]:
    entries = {"itemInfoEntries": {"a": {"path": path}}, "rootModelIdentifier": "a"}
    return _manifest(json.dumps(entries))


def _rename_in_specification(package: Path, old: bytes, new: bytes) -> None:
    (specification,) = package.rglob("*.mlmodel")
    content = specification.read_bytes()
    assert content.count(old) >= 1
    specification.write_bytes(content.replace(old, new))


def read_everything(package: Path) -> None:
    for function in load_program(package).functions.values():
        for operation in function.operations:
            for _, constant in operation.constants():
                constant.read()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_cut_weights, "weight.bin is cut short"),
        (_swap_weights, "weight.bin is damaged"),
        (lambda package: next(package.rglob("weight.bin")).unlink(), "weight.bin cannot be read"),
        (_break_specification, "is not a Core ML model"),
        (lambda package: next(package.rglob("*.mlmodel")).unlink(), "is incomplete"),
        (lambda package: (package / "Manifest.json").write_text("{}"), "Manifest.json is damaged"),
        (lambda package: (package / "Manifest.json").unlink(), "not an .mlpackage"),
        (_manifest("[" * 10**5), "Manifest.json is damaged: .* nests too deeply"),
        (_manifest("[]"), "Manifest.json is damaged: it holds no JSON object"),
        (
            _manifest('{"itemInfoEntries": [], "rootModelIdentifier": 0}'),
            "Manifest.json is damaged",
        ),
        (_leads_to("x" * 5000), "Manifest.json is damaged: .*name too long"),
        (_leads_to("\ud800"), "Manifest.json is damaged: .*no text"),
        (
            lambda p: _rename_in_specification(p, b"\x03val", b"\x03vol"),
            "mlmodel is damaged: .*val",
        ),
    ],
)
def test_damage_is_named(damage: Callable[[Path], object], complaint: str, tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    damage(package)
    with pytest.raises(PackageError, match=complaint):
        read_everything(package)


def test_whatever_byte_of_a_program_changes_it_is_read_or_called_damaged(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    (specification,) = package.rglob("*.mlmodel")
    whole = specification.read_bytes()
    inspected = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        specification.write_bytes(damaged)
        with contextlib.suppress(GenaError):
            inspect_package(package)
            inspected += 1
    assert 0 < inspected < len(whole)


def test_metadata_stands_in_order(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    (specification,) = package.rglob("*.mlmodel")
    model = ct.proto.Model_pb2.Model.FromString(specification.read_bytes())
    names = [f"name {number}" for number in range(10)]
    model.description.metadata.userDefined.update(dict.fromkeys(reversed(names), "x"))
    model.description.metadata.author = "Ada"
    specification.write_bytes(model.SerializeToString())
    own = [name for name in load_program(package).metadata if name.startswith("name")]
    assert own == names
    assert next(iter(load_program(package).metadata)) == "author"


def test_a_neural_network_of_the_older_format_is_refused(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    model = ct.proto.Model_pb2.Model(specificationVersion=4)
    model.neuralNetwork.SetInParent()
    (specification,) = package.rglob("*.mlmodel")
    specification.write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="neuralNetwork; only ML programs"):
        load_program(package)


def test_a_program_is_read_without_coremltools_and_torch(tmp_path: Path) -> None:
    package = _linear_package(tmp_path)
    script = (
        "import json, sys; from pathlib import Path;"
        "from converter.package.reader import load_program;"
        f"functions = list(load_program(Path({str(package)!r})).functions);"
        "heavy = [name in sys.modules for name in ('coremltools', 'torch')];"
        "print(json.dumps([functions, heavy]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert json.loads(result.stdout) == [["main"], [False, False]]
