"""Merged packages against coremltools' own `save_multifunction`, and damaged parts."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.checkpoint.files import find_checkpoint
from converter.conversion.build import PackagePlan, build_package, coremltools_quietly
from converter.errors import PackageError
from converter.mil.executor import PackageExecutor
from converter.network.loading import load_checkpoint
from converter.options import BuildOptions
from converter.package.multifunction import merge_functions
from tools.seeded_checkpoints import make_checkpoint

WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
LENGTHS = (128, 256)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Single-length packages of one small checkpoint."""
    folder = tmp_path_factory.mktemp("parts")
    checkpoint = make_checkpoint(folder / "checkpoint")
    reference = load_checkpoint(find_checkpoint(str(checkpoint))).encoder()
    packages = {}
    for length in LENGTHS:
        package = folder / f"{length}.mlpackage"
        build_package(reference, BuildOptions(), PackagePlan(), package, lengths=(length,))
        packages[f"length_{length}"] = package
    return packages


def merge(parts: dict[str, Path], destination: Path) -> Path:
    merge_functions(parts, "length_256", destination)
    return destination


def by_coremltools(parts: dict[str, Path], destination: Path) -> Path:
    with coremltools_quietly() as ct:
        descriptor = ct.utils.MultiFunctionDescriptor()
        for name, path in parts.items():
            descriptor.add_function(str(path), "main", name)
        descriptor.default_function_name = "length_256"
        ct.utils.save_multifunction(descriptor, str(destination))
    return destination


def spec(package: Path) -> Any:
    with coremltools_quietly() as ct:
        return ct.models.MLModel(str(package), skip_model_load=True).get_spec()


def test_describes_itself_as_coremltools_does(parts: dict[str, Path], tmp_path: Path) -> None:
    ours = spec(merge(parts, tmp_path / "ours.mlpackage"))
    theirs = spec(by_coremltools(parts, tmp_path / "theirs.mlpackage"))

    assert ours.specificationVersion == theirs.specificationVersion
    assert ours.description.defaultFunctionName == theirs.description.defaultFunctionName
    described = [
        {f.name: (list(f.input), list(f.output)) for f in s.description.functions}
        for s in (ours, theirs)
    ]
    for name in parts:
        for ours_features, theirs_features in zip(*(d[name] for d in described), strict=True):
            assert [f.name for f in ours_features] == [f.name for f in theirs_features]
            assert [f.type for f in ours_features] == [f.type for f in theirs_features]
    assert set(ours.mlProgram.functions) == set(theirs.mlProgram.functions)
    assert ours.mlProgram.version == theirs.mlProgram.version
    for name in parts:
        assert ours.mlProgram.functions[name].opset == theirs.mlProgram.functions[name].opset


def test_every_function_computes_what_its_part_does(parts: dict[str, Path], tmp_path: Path) -> None:
    merged = PackageExecutor(merge(parts, tmp_path / "merged.mlpackage"))
    for name, part in parts.items():
        length = int(name.removeprefix("length_"))
        ids = np.arange(length, dtype=np.int32)[None] % 300 + 5
        alone = PackageExecutor(part).predict({"input_ids": ids})["features"]
        assert np.array_equal(merged.predict({"input_ids": ids}, name)["features"], alone)


def test_shares_weights_as_coremltools_does(parts: dict[str, Path], tmp_path: Path) -> None:
    ours = merge(parts, tmp_path / "ours.mlpackage") / WEIGHTS
    theirs = by_coremltools(parts, tmp_path / "theirs.mlpackage") / WEIGHTS
    assert ours.stat().st_size <= theirs.stat().st_size


def test_a_part_cut_short_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.mlpackage"
    shutil.copytree(parts["length_128"], cut)
    weights = cut / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(PackageError, match="cut short"):
        merge({**parts, "length_128": cut}, tmp_path / "merged.mlpackage")
