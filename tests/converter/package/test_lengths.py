"""What is derived for a length is what coremltools gives for it, operation by operation."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder

from converter.conversion.build import (
    EVERYTHING,
    PackagePlan,
    _length_of_its_own,
    _sizes,
    _tables,
    build_package,
    module_of,
    network_for,
    network_inputs,
)
from converter.conversion.toolchain import coremltools_quietly, hurrying
from converter.errors import PackageError
from converter.mil.executor import PackageExecutor
from converter.network.config import read_encoder_config
from converter.network.neural_engine import Scales
from converter.network.reference import ReferenceEncoder
from converter.options import BuildOptions
from converter.package.lengths import spread_over_lengths
from converter.package.program import Constant, Function
from converter.package.reader import load_program
from tests.support.fp16_networks import make_reference
from tests.support.moderngena import make_moderngena_reference
from tools.seeded_moderngena import moderngena_config_dict

WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
LENGTHS = (64, 128)
# 17 and 19 are sizes of this network: the length that it is converted for is another one.
ODD_SIZES = {"pad_token_id": 17, "intermediate_size": 19 * 8, "num_attention_heads": 2}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "pre-LN": ({"last_layer_norm": True}, {}, ()),
    "post-LN": ({"pre_layer_norm": False}, {}, ()),
    "wider than a window": ({"hidden_size": 640}, {}, ()),
    "odd sizes": (ODD_SIZES, {}, ()),
    "an fp32 prefix": ({}, {}, ("embedding_stage", "blocks.0.attention_norm")),
    "everything in fp32": ({}, {}, ("",)),
    "embedding on the host": ({}, {"embedding": "host"}, ()),
    "chunks": ({}, {"ffn_chunks": 2}, ()),
    "published": ({}, {"layout": "published"}, ()),
    "int8": ({}, {"weights": "int8"}, ()),
    "modernGENA": ({"model_type": "modernbert"}, {}, ()),
    "modernGENA, published": ({"model_type": "modernbert"}, {"layout": "published"}, ()),
}


def direct(
    reference: ReferenceEncoder,
    options: BuildOptions,
    fp32: tuple[str, ...],
    length: int,
    folder: Path,
) -> Path:
    """As coremltools converts the network traced at this very length, with all of its passes but
    those that are left out on purpose."""
    network = network_for(reference, options, Scales(), length)
    examples = network_inputs(network, np.zeros((1, length), np.int32))
    with coremltools_quietly() as ct, torch.no_grad():
        Builder.name_count.clear()
        pipeline = ct.PassPipeline.DEFAULT
        pipeline.remove_passes({"common::add_int16_cast", "common::guard_negative_gather_indices"})
        model = ct.convert(
            torch.jit.trace(network, tuple(examples.values())),
            inputs=[
                ct.TensorType(name, tuple(x.shape), np.int32 if name == "input_ids" else np.float16)
                for name, x in examples.items()
            ],
            outputs=[ct.TensorType("features", dtype=np.float32)],
            compute_precision=ct.precision.FLOAT32
            if fp32 == EVERYTHING
            else ct.transform.FP16ComputePrecision(lambda op: module_of(op) not in fp32),
            minimum_deployment_target=ct.target.macOS15,
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
        if options.weights == "int8":
            optimize = ct.optimize.coreml
            how = optimize.OpLinearQuantizerConfig(
                mode="linear_symmetric", granularity="per_channel"
            )
            of_type = dict.fromkeys(("conv", "linear", "gather"), how)
            model = optimize.linear_quantize_weights(
                model, optimize.OptimizationConfig(op_type_configs=of_type)
            )
        package = folder / f"direct-{length}.mlpackage"
        model.save(str(package))
    return package


def operations(function: Function) -> Iterator[tuple[Any, ...]]:
    """Everything that says what an operation does, with the bytes of its constants."""
    for operation in function.operations:
        inputs = {
            parameter: [
                (str(a.type), a.read().tobytes() if a.type.dtype != "string" else a.source)
                if isinstance(a, Constant)
                else a
                for a in arguments
            ]
            for parameter, arguments in operation.inputs.items()
        }
        yield operation.type, operation.name, inputs, operation.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_a_derived_function_is_what_conversion_gives(kind: str, tmp_path: Path) -> None:
    changes, choices, fp32 = KINDS[kind]
    reference = reference_of(changes)
    options = BuildOptions(**choices)
    package = tmp_path / "derived.mlpackage"
    lengths = (128, 256) if kind.startswith("modernGENA") else LENGTHS
    build_package(reference, options, PackagePlan(fp32_modules=fp32), package, lengths=lengths)
    derived = load_program(package)
    assert derived.default_function == f"length_{lengths[-1]}"
    for length in lengths:
        function = derived.functions[f"length_{length}"]
        # The longest by all that coremltools does: that hurrying changes nothing is told by it.
        with contextlib.nullcontext() if length == lengths[-1] else hurrying():
            expected = load_program(direct(reference, options, fp32, length, tmp_path))
        main = expected.functions["main"]
        assert (function.inputs, function.outputs) == (main.inputs, main.outputs)
        assert function.opset == main.opset
        assert derived.specification_version == expected.specification_version
        assert list(operations(function)) == list(operations(main))


def reference_of(changes: dict[str, Any]) -> ReferenceEncoder:
    if "model_type" in changes:
        return make_moderngena_reference(**changes)
    return make_reference(**{"num_hidden_layers": 1, **changes})


def specification(package: Path) -> Any:
    with coremltools_quietly() as ct:
        return ct.models.MLModel(str(package), skip_model_load=True).get_spec()


@dataclass(frozen=True)
class Built:
    """Two lengths: derived, and merged by coremltools of two conversions."""

    ours: Path
    theirs: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    reference, options = make_reference(num_hidden_layers=1), BuildOptions()
    ours, theirs = folder / "ours.mlpackage", folder / "theirs.mlpackage"
    build_package(reference, options, PackagePlan(), ours, lengths=LENGTHS)
    with coremltools_quietly() as ct:
        descriptor = ct.utils.MultiFunctionDescriptor()
        for length in LENGTHS:
            part = direct(reference, options, (), length, folder)
            descriptor.add_function(str(part), "main", f"length_{length}")
        descriptor.default_function_name = "length_128"
        ct.utils.save_multifunction(descriptor, str(theirs))
    return Built(ours, theirs)


@pytest.mark.parametrize("together", [1, 2, 4])
def test_channels_of_heads_taken_together_are_not_taken_for_tokens(together: int) -> None:
    """Attention that looks a short way takes four at a time, and the rest."""
    head_size = 17 * 64 // together  # modernGENA is converted for 17 blocks of 64 tokens
    raw = moderngena_config_dict(
        hidden_size=head_size * (together + 4), num_attention_heads=together + 4
    )
    config, options = read_encoder_config(raw), BuildOptions()
    assert _length_of_its_own(config, options, _sizes(config, options)) == 18 * 64


def test_it_describes_itself_as_coremltools_does(built: Built) -> None:
    ours, theirs = specification(built.ours), specification(built.theirs)
    assert ours.specificationVersion == theirs.specificationVersion
    assert ours.description.defaultFunctionName == theirs.description.defaultFunctionName
    described = [
        {
            f.name: [(feature.name, feature.type) for feature in (*f.input, *f.output)]
            for f in s.description.functions
        }
        for s in (ours, theirs)
    ]
    assert described[0] == described[1]
    assert set(ours.mlProgram.functions) == set(theirs.mlProgram.functions)
    assert ours.mlProgram.version == theirs.mlProgram.version


def test_lengths_share_their_weights_as_coremltools_does(built: Built) -> None:
    assert (built.ours / WEIGHTS).stat().st_size <= (built.theirs / WEIGHTS).stat().st_size


def test_every_function_computes_what_coremltools_merged_one_does(built: Built) -> None:
    ours, theirs = PackageExecutor(built.ours), PackageExecutor(built.theirs)
    for length in LENGTHS:
        ids = {"input_ids": np.arange(length, dtype=np.int32)[None] % 300 + 5}
        mine, other = (e.predict(ids, f"length_{length}")["features"] for e in (ours, theirs))
        assert np.array_equal(mine, other)


def test_a_table_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    reference, options = make_reference(num_hidden_layers=1), BuildOptions()
    package = direct(reference, options, (), 21, tmp_path)
    wrong = np.zeros((1, 64, 1, 512), np.float32)
    with pytest.raises(PackageError, match=r"unknown constant of the shape \(1, 64, 1, 21\)"):
        spread_over_lengths(package, 21, {64: "main"}, [wrong])


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    reference, options = make_reference(num_hidden_layers=1), BuildOptions()
    package = direct(reference, options, (), 21, tmp_path)
    weights = package / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    tables = _tables(reference, LENGTHS[-1], options, Scales())
    with pytest.raises(PackageError, match="cut short"):
        spread_over_lengths(package, 21, {64: "main"}, tables)
