"""What is in the saved packages, and what they compute, read back from disk."""

import filecmp
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder

from converter.bundle.opening import Bundle
from converter.checkpoint.files import find_checkpoint
from converter.conversion.build import EVERYTHING, PackagePlan, build_package
from converter.fidelity.gates import psnr
from converter.mil.executor import PackageExecutor
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.neural_engine import re_author
from converter.network.gena_bert.reference import GenaEncoder
from converter.network.loading import load_checkpoint
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from converter.package.program import Program
from converter.package.reader import load_program
from tests.support.paths import ROOT
from tools.seeded_checkpoints import config_dict, random_weights

LENGTH, N_TOKENS = 64, 50
WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> GenaEncoder:
    return load_checkpoint(find_checkpoint(str(tiny_checkpoint))).encoder()


@pytest.fixture(scope="module")
def build(reference: GenaEncoder, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Packages of 64 tokens, each built once."""
    folder = tmp_path_factory.mktemp("packages")
    built: dict[str, Path] = {}

    def build_once(fp32_modules: tuple[str, ...] = (), **options: Any) -> Path:
        key = f"{fp32_modules} {options}"
        if key not in built:
            built[key] = folder / f"{len(built)}.mlpackage"
            choices = {"target": "macos14", **options}
            build_at(reference, (LENGTH,), built[key], fp32_modules, **choices)
        return built[key]

    return build_once


def build_at(
    reference: GenaEncoder,
    lengths: tuple[int, ...],
    package: Path,
    fp32_modules: tuple[str, ...] = (),
    **options: Any,
) -> None:
    plan = PackagePlan(
        fp32_modules=fp32_modules, description="A test.", metadata={"precision": "fp16"}
    )
    build_package(reference, BuildOptions(**options), plan, package, lengths=lengths)


def window() -> np.ndarray:
    ids = np.full((1, LENGTH), 3, np.int32)
    ids[0, :N_TOKENS] = [1, *np.random.default_rng(0).integers(5, 400, N_TOKENS - 2), 2]
    return ids


def agreement(package: Path, reference: GenaEncoder) -> float:
    ids = window()
    features = PackageExecutor(package).predict({"input_ids": ids})["features"]
    with torch.no_grad():
        expected = reference(torch.from_numpy(ids[:, :N_TOKENS]).long())[0].numpy()
    return psnr(expected, features[0, :N_TOKENS])


def outputs_by_dtype(program: Program, function: str = "main") -> Counter[tuple[str, str]]:
    """How many operations there are of each type and output dtype."""
    return Counter(
        (operation.type, output.type.dtype)
        for operation in program.functions[function].operations
        for output in operation.outputs
    )


def specification(package: Path) -> Any:
    from coremltools.proto import Model_pb2

    content = (package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
    return Model_pb2.Model.FromString(content)


def test_one_length_is_one_function_that_takes_ids_and_gives_features(build: Build) -> None:
    program = load_program(build())
    (function,) = program.functions.values()
    assert (function.name, program.default_function) == ("main", "main")
    inputs = {name: str(type_) for name, type_ in function.inputs.items()}
    assert inputs == {"input_ids": f"int32(1, {LENGTH})"}
    outputs = {output.name: str(output.type) for output in function.outputs}
    assert outputs == {"features": f"fp32(1, {LENGTH}, 64)"}
    assert not any(program.flexible_inputs.values())


def test_three_lengths_are_three_functions(tiny_bundle: Bundle) -> None:
    program = load_program(tiny_bundle.package)
    assert set(program.functions) == {"length_128", "length_256", "length_512"}
    # Xcode and a caller who names no function get the longest.
    assert program.default_function == "length_512"
    for length in (128, 256, 512):
        function = program.functions[f"length_{length}"]
        assert str(function.inputs["input_ids"]) == f"int32(1, {length})"
        assert [str(o.type) for o in function.outputs] == [f"fp32(1, {length}, 64)"]


@pytest.mark.parametrize(("target", "version"), [("macos14", 8), ("macos15", 9)])
def test_the_target_sets_the_specification_version(
    build: Build, target: str, version: int, tiny_bundle: Bundle
) -> None:
    package = build(target=target) if target == "macos14" else tiny_bundle.package
    assert load_program(package).specification_version == version


def test_the_embedding_on_the_host_changes_the_inputs(build: Build, reference: GenaEncoder) -> None:
    package = build(embedding="host")
    program = load_program(package)
    inputs = {name: str(t) for name, t in program.functions["main"].inputs.items()}
    assert inputs == {
        "embeddings": f"fp16(1, 64, 1, {LENGTH})",
        "padding_mask": f"fp16(1, {LENGTH})",
    }
    assert not any(kind == "gather" for kind, _ in outputs_by_dtype(program))
    ids = window()
    table = re_author(reference, LENGTH, BuildOptions(embedding="host"), Scales()).host_table()
    rows = table.half()[ids[0]].float().numpy()
    features = PackageExecutor(package).predict(
        {"embeddings": rows.T[None, :, None, :], "padding_mask": (ids != 3).astype(np.float32)}
    )["features"]
    with torch.no_grad():
        expected = reference(torch.from_numpy(ids[:, :N_TOKENS]).long())[0].numpy()
    assert psnr(expected, features[0, :N_TOKENS]) >= 70


def test_people_are_told_what_it_is(build: Build, tiny_bundle: Bundle) -> None:
    description = specification(build()).description
    assert description.metadata.shortDescription == "A test."
    assert "AIRI" in description.metadata.author
    assert description.metadata.license.startswith("MIT")
    assert description.metadata.userDefined["precision"] == "fp16"
    (ids,), (features,) = description.input, description.output
    assert "[CLS]" in ids.shortDescription
    assert f"(1, {LENGTH})" in ids.shortDescription
    assert "(1, 64, 64)" in features.shortDescription
    for function in specification(tiny_bundle.package).description.functions:
        length = function.name.removeprefix("length_")
        assert f"(1, {length})" in function.input[0].shortDescription
        assert f"(1, {length}, 64)" in function.output[0].shortDescription


def test_provenance_is_in_the_metadata(tiny_bundle: Bundle) -> None:
    found = specification(tiny_bundle.package).description.metadata.userDefined
    assert found["weights_sha256"] == tiny_bundle.manifest.checkpoint_sha256["weights"]
    assert found["precision"] == "fp16"


def test_it_computes_in_fp16_between_look_up_and_output(build: Build, reference: Any) -> None:
    counts = outputs_by_dtype(load_program(build()))
    floats = {key: n for key, n in counts.items() if key[1] == "fp32"}
    # The output is declared fp32, and one cast makes it so.
    assert floats == {("cast", "fp32"): 1}
    assert counts["conv", "fp16"] == 2 * 6  # query, key, value, output, up, down
    assert counts["softmax", "fp16"] == 2 * 2  # a head at a time
    assert counts["layer_norm", "fp16"] == 1 + 2 * 2
    assert agreement(build(), reference) >= 70


def test_parts_in_fp32_are_those_and_no_others(build: Build) -> None:
    counts = outputs_by_dtype(load_program(build(("blocks.1.attention", "blocks.0.feed_forward"))))
    # Four convolutions and both heads of one attention, and two convolutions and their GELU.
    assert counts["conv", "fp32"] == 4 + 2
    assert counts["conv", "fp16"] == 6
    assert counts["softmax", "fp32"] == 2
    assert counts["softmax", "fp16"] == 2
    assert counts["gelu", "fp32"] == 1
    assert counts["gelu", "fp16"] == 1
    assert counts["layer_norm", "fp32"] == 0


def test_everything_in_fp32_is_the_reference(build: Build, reference: Any) -> None:
    package = build(EVERYTHING)
    assert not any(dtype == "fp16" for _, dtype in outputs_by_dtype(load_program(package)))
    assert agreement(package, reference) >= 100


def test_the_published_layout_converts(build: Build, reference: Any) -> None:
    package = build(layout="published")
    counts = outputs_by_dtype(load_program(package))
    assert sum(n for (kind, _), n in counts.items() if kind == "linear") == 2 * 6
    assert not any(kind == "conv" for kind, _ in counts)
    assert agreement(package, reference) >= 70


@pytest.mark.parametrize(
    ("weights", "share", "least_db"),
    # Bytes a weight: 1 instead of 2; 6 bits instead of 16. The rest is norms and tables.
    [("int8", 0.60, 25), ("palettized6", 0.55, 20)],
)
def test_compressed_weights_are_smaller_and_still_this_network(
    build: Build, reference: Any, weights: str, share: float, least_db: float
) -> None:
    package = build(weights=weights)
    assert (package / WEIGHTS).stat().st_size < share * (build() / WEIGHTS).stat().st_size
    assert least_db <= agreement(package, reference) < agreement(build(), reference)


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where weights outweigh the program: hidden 256, vocabulary 8000; built twice, and alone."""
    config = GenaBertConfig.from_dict(
        config_dict(
            hidden_size=256,
            vocab_size=8000,
            num_attention_heads=2,
            intermediate_size=1024,
            num_hidden_layers=1,
        )
    )
    network = GenaEncoder(config)
    network.load_state_dict(random_weights(config))
    network.eval().requires_grad_(False)
    folder = tmp_path_factory.mktemp("wider")
    lengths = {"both": (64, 128), "again": (64, 128), "alone": (128,)}
    packages = {name: folder / f"{name}.mlpackage" for name in lengths}
    for name, package in packages.items():
        build_at(network, lengths[name], package)
    return packages


def size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


def test_lengths_share_their_weights(wider: dict[str, Path]) -> None:
    assert size(wider["both"]) < 1.05 * size(wider["alone"])


def test_two_builds_are_equal_bytes(wider: dict[str, Path]) -> None:
    names = sorted(
        str(path.relative_to(wider["both"])) for path in wider["both"].rglob("*") if path.is_file()
    )
    assert len(names) == 3
    _, differ, missing = filecmp.cmpfiles(wider["both"], wider["again"], names, shallow=False)
    assert (differ, missing) == ([], [])
    entries = json.loads((wider["both"] / "Manifest.json").read_text())["itemInfoEntries"]
    assert len(entries) == 2


def test_a_build_does_not_depend_on_what_was_converted_before(
    tmp_path: Path, reference: GenaEncoder
) -> None:
    build_at(reference, (16,), tmp_path / "first")
    # What a compression leaves behind, or a conversion that was interrupted.
    Builder.name_count["transpose"] = 8
    build_at(reference, (16,), tmp_path / "second")
    model = Path("Data", "com.apple.CoreML", "model.mlmodel")
    assert (tmp_path / "first" / model).read_bytes() == (tmp_path / "second" / model).read_bytes()


def test_coremltools_says_nothing_to_the_terminal(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """In a process of its own: what it prints at import is printed once."""
    code = """
import sys
from pathlib import Path
from converter.checkpoint.files import find_checkpoint
from converter.network.loading import load_checkpoint
from converter.conversion.build import PackagePlan, build_package
from converter.options import BuildOptions
encoder = load_checkpoint(find_checkpoint(sys.argv[1])).encoder()
build_package(encoder, BuildOptions(), PackagePlan(), Path(sys.argv[2]), lengths=(16,))
assert not {"sklearn", "transformers"} & set(sys.modules), "a second for nothing"
import transformers
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny_checkpoint), str(tmp_path / "quiet.mlpackage")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_progress_ends_at_one(tmp_path: Path, reference: GenaEncoder) -> None:
    seen: list[float] = []
    build_package(
        reference,
        BuildOptions(),
        PackagePlan(),
        tmp_path / "p.mlpackage",
        lengths=(16,),
        progress=seen.append,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
