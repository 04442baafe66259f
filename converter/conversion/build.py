"""Trace -> Core ML -> `.mlpackage`, with inputs, outputs and metadata named for people.

One ML program function a length. coremltools' and torch's chatter goes to the log.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converter.conversion.toolchain import coremltools_quietly, hurrying
from converter.network.families import family_of
from converter.network.neural_attention import HEADS_TOGETHER, MASK_VALUE
from converter.network.neural_engine import NeuralEngineEncoder, Scales
from converter.network.reference import ReferenceEncoder
from converter.network.structure import EncoderConfig
from converter.options import BuildOptions, function_names
from converter.package.interface import HOST_INPUTS, INPUT, OUTPUT, host_inputs
from converter.package.lengths import Sizes, spread_over_lengths
from converter.package.reader import parse_specification, specification_file

log = logging.getLogger(__name__)

# Set `fp32_modules` to this to compute everything in fp32.
EVERYTHING = ("",)
# The passes of coremltools' own pipeline that find something to do here. Left out are also two that
# would narrow ids to int16 and guard against negative indices: eight integer operations around the
# look-up that ids from a tokenizer do not need.
_PASSES = frozenset(
    f"common::{name}"
    for name in (
        "update_output_dtypes",
        "cast_optimization",
        "noop_elimination",
        "const_elimination",
        "sanitize_input_output_names",
        "divide_to_multiply",
        "const_deduplication",
        "dead_code_elimination",
        "reduce_transposes",
        "fuse_layernorm_or_instancenorm",
        "fuse_gelu_exact",
        "fuse_elementwise_to_batchnorm",
        "merge_consecutive_reshapes",
        "merge_consecutive_transposes",
        "fuse_transpose_matmul",
        "remove_redundant_ops",
        "dedup_op_and_var_names",
        "add_fp16_cast",
        "topological_reorder",
    )
)

# Networks are converted for about so many tokens: few, and more than any small number in a graph.
_SHORT = 17


@dataclass(frozen=True)
class PackagePlan:
    """What a package is besides the choices: what was measured, and what people are told.

    Attributes:
        fp32_modules: module paths of `NeuralEngineEncoder` that compute in fp32, as `module_of`
            names them; or `EVERYTHING`.
        description, metadata: shown by Xcode.
    """

    scales: Scales = field(default_factory=Scales)
    fp32_modules: tuple[str, ...] = ()
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def build_package(
    reference: ReferenceEncoder,
    options: BuildOptions,
    plan: PackagePlan,
    destination: Path,
    *,
    lengths: Sequence[int] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write `destination`, a `.mlpackage` folder that must not exist yet.

    Two builds of the same weights, options and plan give the same bytes.

    Args:
        lengths: in tokens, instead of the target's; more than one needs macOS 15.
        progress: called with the fraction done, 0 to 1.
    """
    functions = function_names(lengths or options.lengths(reference.config.window))
    sizes = _sizes(reference.config, options)
    length = _length_of_its_own(reference.config, options, sizes)
    network = network_for(reference, options, plan.scales, length)
    progress(0.1)
    with _scratch_folder(destination.parent) as scratch:
        converted = scratch / "converted.mlpackage"
        _convert(network, length, options, plan.fp32_modules).save(str(converted))
        progress(0.9)
        tables = _tables(reference, length, options, plan.scales)
        spread_over_lengths(converted, length, functions, tables, sizes)
        converted.rename(destination)
    _describe(destination, plan)
    _fix_identifiers(destination)
    progress(1.0)


def _sizes(config: EncoderConfig, options: BuildOptions) -> Sizes:
    """Of tensors in the graph that come of the number of tokens, by that."""
    if options.layout == "published":
        return lambda tokens: (tokens,)
    return functools.partial(family_of(config).sizes, config)


def _length_of_its_own(config: EncoderConfig, options: BuildOptions, sizes: Sizes) -> int:
    """A number of tokens whose sizes cannot be taken for any other size or constant."""
    values = dataclasses.asdict(config).values()  # type: ignore[call-overload]
    others = {int(value) for value in values if isinstance(value, int | float)}
    others |= {heads * config.head_size for heads in range(1, HEADS_TOGETHER + 1)}
    others |= {config.intermediate_size // options.ffn_chunks}
    others |= {other // 2 for other in others}
    multiple = 1 if options.layout == "published" else family_of(config).multiple(config)
    others |= {multiple, 3 * multiple}
    lengths = (multiple * count for count in itertools.count(_SHORT))
    return next(length for length in lengths if others.isdisjoint(sizes(length)))


def _tables(
    reference: ReferenceEncoder, length: int, options: BuildOptions, scales: Scales
) -> Sequence[NDArray[np.float32]]:
    """The constants of the graph that have a row a token, for the longest window.

    Args:
        length: for which the network is traced, which may be longer still.
    """
    family = family_of(reference.config)
    if options.layout == "published":
        return family.published_tables(reference)
    return family.tables(reference, max(length, reference.config.window), options, scales)


@contextlib.contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder that temporary files of coremltools go to as well.

    It keeps copies of every package until the process ends, and for good where that is killed.
    """
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=parent) as folder:
        elsewhere, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = elsewhere


def network_for(
    reference: ReferenceEncoder, options: BuildOptions, scales: Scales, length: int
) -> nn.Module:
    """The network that is traced for this length: re-authored, or as published."""
    if options.layout == "published":
        return PublishedLayout(reference)
    return re_authored(reference, length, options, scales)


def re_authored(
    reference: ReferenceEncoder, length: int, options: BuildOptions, scales: Scales
) -> NeuralEngineEncoder:
    """The network for the Neural Engine, for windows of this length."""
    return family_of(reference.config).re_author(reference, length, options, scales)


def network_inputs(network: nn.Module, input_ids: NDArray[np.int32]) -> dict[str, Tensor]:
    """Padded ids (1, L) as the network's `forward` takes them, in order, by the package's names."""
    arrays: dict[str, NDArray[Any]] = {INPUT: input_ids}
    if isinstance(network, NeuralEngineEncoder) and network.embedding_stage.on_host:
        pad_id = network.embedding_stage.pad_token_id
        arrays = dict(host_inputs(input_ids, network.host_table().numpy(), pad_id))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class PublishedLayout(nn.Module):
    """The reference network as it is, with a mask that fp16 can hold: the baseline."""

    def __init__(self, reference: ReferenceEncoder) -> None:
        super().__init__()
        self.reference = reference

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.reference.hidden_states(input_ids, MASK_VALUE)[-1]


def _convert(
    network: nn.Module, length: int, options: BuildOptions, fp32_modules: tuple[str, ...]
) -> Any:
    examples = network_inputs(network, np.zeros((1, length), np.int32))
    with coremltools_quietly() as ct:
        pipeline = ct.PassPipeline.DEFAULT
        pipeline.remove_passes(set(pipeline.passes) - _PASSES)
        with torch.no_grad():
            traced = torch.jit.trace(network, tuple(examples.values()), check_trace=False)  # type: ignore[no-untyped-call]
        inputs = [
            ct.TensorType(name, tuple(example.shape), np.int32 if name == INPUT else np.float16)
            for name, example in examples.items()
        ]
        with hurrying():
            model = ct.convert(
                traced,
                inputs=inputs,
                outputs=[ct.TensorType(OUTPUT, dtype=np.float32)],
                convert_to="mlprogram",
                compute_precision=_precision(ct, fp32_modules),
                minimum_deployment_target=ct.target[f"macOS{options.macos}"],
                pass_pipeline=pipeline,
                skip_model_load=True,
            )
        return _compress(ct, model, options)


def _precision(ct: ModuleType, fp32_modules: tuple[str, ...]) -> Any:
    if fp32_modules == EVERYTHING:
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(
        op_selector=lambda operation: module_of(operation) not in fp32_modules
    )


def module_of(operation: Any) -> str:
    """Path of the part of `NeuralEngineEncoder` that a MIL operation came from.

    "embedding_stage", "last_norm", "blocks.N.attention" and the like, or "blocks.N" for the
    additions to the residual stream. "" for what belongs to none, such as the output's layout.
    """
    from coremltools.converters.mil.mil.scope import ScopeSource

    names = operation.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])
    if len(names) < 2:
        return ""
    if not names[0].isdigit():
        return names[0] if names[0] in ("embedding_stage", "last_norm") else ""
    # coremltools leaves the name of the module list out: ["0", "attention", "query", ...].
    part = names[1] if len(names) > 2 else ""
    return f"blocks.{names[0]}.{part}".rstrip(".")


def _compress(ct: ModuleType, model: Any, options: BuildOptions) -> Any:
    """Compress the matrices; the small position table stays, so that all lengths agree."""
    if not options.compressed:
        return model
    optimize = ct.optimize.coreml
    if options.weights == "int8":
        how = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", granularity="per_channel")
        compress = optimize.linear_quantize_weights
    else:
        how = optimize.OpPalettizerConfig(mode="kmeans", nbits=6)
        compress = optimize.palettize_weights
    matrices = dict.fromkeys(("conv", "linear", "gather"), how)
    return compress(model, optimize.OptimizationConfig(op_type_configs=matrices))


def _describe(package: Path, plan: PackagePlan) -> None:
    """Name, describe and sign the model; serialised so that equal models are equal bytes."""
    file = specification_file(package)
    specification = parse_specification(file)
    description = specification.description
    description.metadata.shortDescription = plan.description
    description.metadata.author = "gena-coreml; network and weights by AIRI Institute (GENA-LM)"
    description.metadata.license = "MIT (GENA-LM; Copyright 2022 AIRI)"
    description.metadata.versionString = "1"
    description.metadata.userDefined.update(plan.metadata)
    for function in description.functions or [description]:
        for feature in (*function.input, *function.output):
            shape = [int(size) for size in feature.type.multiArrayType.shape]
            feature.shortDescription = _feature_description(feature.name, shape)
    file.write_bytes(specification.SerializeToString(deterministic=True))


def _feature_description(name: str, shape: list[int]) -> str:
    texts = {
        INPUT: "Token ids: [CLS], tokens, [SEP], then padding",
        OUTPUT: "Last hidden states; row i belongs to token i, rows of padding mean nothing",
        HOST_INPUTS[0]: "Rows of the bundle's embeddings.npy, one a token, on axis 3",
        HOST_INPUTS[1]: "1 for tokens, 0 for padding",
    }
    return f"{texts[name]}. Shape {tuple(shape)}."


def _fix_identifiers(package: Path) -> None:
    """coremltools names the package's items by random UUIDs; name them by their paths."""
    file = package / "Manifest.json"
    manifest = json.loads(file.read_text())
    entries = manifest["itemInfoEntries"]
    fixed = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        for key, entry in entries.items()
    }
    manifest["itemInfoEntries"] = {
        fixed[key]: entries[key] for key in sorted(entries, key=fixed.__getitem__)
    }
    manifest["rootModelIdentifier"] = fixed[manifest["rootModelIdentifier"]]
    file.write_text(json.dumps(manifest, indent=4, sort_keys=True))
