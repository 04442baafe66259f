"""The whole way: checkpoint -> package -> verified -> published bundle."""

import logging
import math
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converter.bundle.opening import (
    EMBEDDINGS,
    GOLDEN,
    PACKAGE,
    TOKENIZER,
    BuildOptions,
    Bundle,
    Manifest,
    build_lock,
    building_folder,
    default_bundle_folder,
    open_bundle,
    publish,
    write_manifest,
)
from converter.checkpoint.files import find_checkpoint
from converter.checkpoint.loading import Checkpoint, load_checkpoint
from converter.conversion.build import (
    EVERYTHING,
    PackagePlan,
    build_package,
    function_name,
    network_for,
)
from converter.conversion.precision import choose_fp32_modules, precision_modules
from converter.conversion.progress import OnProgress
from converter.errors import BundleError, CheckpointError, FidelityError, GenaError
from converter.fidelity.gates import RE_AUTHORED, GateResult, compare, worst
from converter.fidelity.golden import Golden, make_golden
from converter.fidelity.verify import LIMITS, Report, verify_bundle
from converter.network.config import EncoderConfig
from converter.network.neural_engine import (
    VALUE_SCALE_LOG2,
    GraphOptions,
    NeuralEngineEncoder,
    SplitHeadAttention,
)
from converter.network.reference import GenaEncoder
from converter.tokenizer import WINDOW, DnaTokenizer

log = logging.getLogger(__name__)

LENGTHS = {"macos15": (128, 256, 512), "macos14": (512,)}
# The effect of fp16 is measured on a window of this many tokens.
_SEARCH_LENGTH = 128


@dataclass(frozen=True)
class _Candidate:
    """One precision to try.

    Attributes:
        fp32_modules: parts of the network in fp32.
        chosen: "fp16", "mixed" or "fp32".
    """

    fp32_modules: tuple[str, ...]
    chosen: str
    reason: str


def convert(
    model: str,
    *,
    revision: str | None = None,
    output: Path | None = None,
    options: BuildOptions | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Bundle:
    """Build a verified bundle, or return the one that is there already.

    Args:
        model: hub id, shipped model or folder, as `load_checkpoint` takes it.
        output: the bundle's folder; by default one named after the model.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another architecture.
        FidelityError: no package passes the gates; nothing is published.
        BundleError: the bundle cannot be written.
        GenaError: the options do not go together, or not with this checkpoint.
    """
    options = options or BuildOptions()
    destination = output or default_bundle_folder(model, revision)
    on_progress("fetch", 0.0, f"Looking for {model}")
    files = find_checkpoint(model, revision)
    on_progress("fetch", 1.0, f"{model} is at hand")

    def waiting() -> None:
        on_progress("fetch", 1.0, "Another process is building this bundle; waiting for it")

    with build_lock(destination, waiting):
        with suppress(BundleError):
            bundle = open_bundle(destination)
            if bundle.manifest.matches(files) and bundle.manifest.options == options:
                on_progress("publish", 1.0, "The bundle is up to date")
                return bundle
        on_progress("read", 0.0, f"Reading {files.weights.name}")
        checkpoint = load_checkpoint(model, revision)
        _require_possible(options, checkpoint.config)
        with building_folder(destination) as building:
            _build(checkpoint, options, building, on_progress)
            on_progress("publish", 0.5, "Publishing the bundle")
            publish(building, destination)
    bundle = open_bundle(destination)
    on_progress("publish", 1.0, f"Published {destination}")
    return bundle


def _build(
    checkpoint: Checkpoint, options: BuildOptions, building: Path, on_progress: OnProgress
) -> None:
    shutil.copyfile(checkpoint.tokenizer_file, building / TOKENIZER)
    tokenizer = DnaTokenizer(building / TOKENIZER)
    _require_matching_tokenizer(tokenizer, checkpoint)
    reference = checkpoint.encoder()
    golden = make_golden(reference, tokenizer)
    golden.save(building / GOLDEN)
    if not np.isfinite(golden.reference).all():
        raise CheckpointError(f"{checkpoint.source}: the reference network gives NaN or infinity.")
    graph, re_authored = _checked_graph(reference, golden, options)
    on_progress("read", 1.0, "The re-authored network agrees with the reference")

    for candidate in _candidates(reference, golden, options, graph, on_progress):
        plan = _plan(checkpoint, options, graph, candidate)
        on_progress("convert", 0.0, f"Converting ({candidate.chosen}: {candidate.reason})")
        _write_package(reference, plan, building, on_progress)
        bundle = Bundle(building, _manifest(checkpoint, plan, candidate, building, fidelity={}))
        on_progress("verify", 0.0, "Comparing the saved package with the reference")
        report = verify_bundle(
            bundle,
            golden,
            re_authored=re_authored,
            head=_head(checkpoint),
            progress=lambda f: on_progress("verify", f, "Comparing the saved package"),
        )
        if report.flag == "expected":
            break
        log.warning("%s package: %s", candidate.chosen, _shortfall(report))
    # The last candidate is the most exact one: it stands or falls by its own figures.
    report.require()
    _manifest(checkpoint, plan, candidate, building, fidelity=_fidelity(report, graph))


def _require_possible(options: BuildOptions, config: EncoderConfig) -> None:
    chunks = options.ffn_chunks
    if chunks < 1 or config.intermediate_size % chunks:
        raise GenaError(
            f"The {config.intermediate_size} channels of the feed-forward do not divide into "
            f"{chunks} chunks (--ffn-chunks)."
        )
    if options.layout == "published" and (options.embedding == "host" or chunks > 1):
        raise GenaError(
            "The published layout is the network as it is: it goes without --embedding host and "
            "--ffn-chunks."
        )


def _require_matching_tokenizer(tokenizer: DnaTokenizer, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.source}: tokenizer.json has {tokenizer.vocab_size} tokens, the network "
            f"only {config.vocab_size}. They do not belong together."
        )
    if tokenizer.pad_id != config.pad_token_id:
        raise CheckpointError(
            f"{checkpoint.source}: config.json pads with {config.pad_token_id}, tokenizer.json "
            f"with {tokenizer.pad_id}. They do not belong together."
        )
    if config.max_position_embeddings < WINDOW:
        raise CheckpointError(
            f"{checkpoint.source}: the network has {config.max_position_embeddings} positions; "
            f"windows of {WINDOW} tokens need as many."
        )


def graph_options(reference: GenaEncoder, golden: Golden, options: BuildOptions) -> GraphOptions:
    """Options of the graph; scales are lowered where activations would overflow otherwise.

    Largest magnitudes of the residual stream and of the values are taken from the re-authored
    network on the verification windows; a power of two brings those that are beyond half of a
    fixed-point accumulator back, exactly.
    """
    graph = GraphOptions(embedding=options.embedding, ffn_chunks=options.ffn_chunks)
    if options.layout == "published":
        return graph
    residual, values = _largest(reference, golden, replace(graph, value_scale_log2=0))
    limit = LIMITS["half the accumulator"]
    room = math.floor(math.log2(limit / values)) if values else VALUE_SCALE_LOG2
    graph = replace(graph, value_scale_log2=min(VALUE_SCALE_LOG2, room))
    if reference.config.pre_layer_norm and residual > limit:
        graph = replace(graph, residual_scale_log2=math.floor(math.log2(limit / residual)))
        log.warning(
            "the residual stream reaches %.0f; it runs scaled by 2^%d",
            residual,
            graph.residual_scale_log2,
        )
    return graph


def _checked_graph(
    reference: GenaEncoder, golden: Golden, options: BuildOptions
) -> tuple[GraphOptions, GateResult]:
    """Options of the graph, and how the re-authored network agrees with the reference."""
    graph = graph_options(reference, golden, options)
    try:
        return graph, check_re_authored(reference, golden, options, graph)
    except FidelityError:
        if graph.residual_scale_log2 == 0:
            raise
    # Scaled that far, ordinary rows drown in the norms' eps. fp32 has room without a scale.
    log.warning("a scale of 2^%d blurs other rows: not scaled", graph.residual_scale_log2)
    graph = replace(graph, residual_scale_log2=0)
    return graph, check_re_authored(reference, golden, options, graph)


def _largest(reference: GenaEncoder, golden: Golden, graph: GraphOptions) -> tuple[float, float]:
    network = NeuralEngineEncoder(reference, WINDOW, replace(graph, embedding="graph"))
    largest = {"residual": 0.0, "values": 0.0}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            largest[name] = max(largest[name], float(output.abs().max()))

        return hook

    for block in network.blocks:
        block.register_forward_hook(record("residual"))
    for module in network.modules():
        if isinstance(module, SplitHeadAttention):
            module.value.register_forward_hook(record("values"))
    with torch.no_grad():
        network(torch.from_numpy(golden.input_ids[golden.names.index("full_length")][None]))
    return largest["residual"], largest["values"]


def check_re_authored(
    reference: GenaEncoder, golden: Golden, options: BuildOptions, graph: GraphOptions
) -> GateResult:
    """The network that will be traced, in fp32, against the reference.

    Raises:
        FidelityError: below 100 dB: the re-authoring itself would be wrong.
    """
    network = network_for(reference, PackagePlan((WINDOW,), options, graph), WINDOW)
    figures = {}
    for name in ("coding", "full_length"):
        index = golden.names.index(name)
        n = golden.n_tokens(index)
        with torch.no_grad():
            ids = torch.from_numpy(golden.input_ids[index : index + 1])
            result = network(*network_inputs(network, ids))[0, :n].numpy()
        figures[name] = compare(golden.reference[index, :n], result)
    result = worst(RE_AUTHORED, figures)
    if result.verdict == "refused":
        raise FidelityError(f"The re-authored network is refused. {result.sentence()}.")
    return result


def network_inputs(network: nn.Module, input_ids: Tensor) -> tuple[Tensor, ...]:
    """Padded ids (1, L) int32 as the network's `forward` takes them."""
    if isinstance(network, NeuralEngineEncoder) and network.embedding_stage.on_host:
        rows = network.host_table()[input_ids.long()]  # (1, L, H)
        is_token = input_ids != network.embedding_stage.pad_token_id
        return rows.transpose(1, 2)[:, :, None, :], is_token.float()
    return (input_ids,)


def _candidates(
    reference: GenaEncoder,
    golden: Golden,
    options: BuildOptions,
    graph: GraphOptions,
    on_progress: OnProgress,
) -> Iterator[_Candidate]:
    """Precisions to try, the fastest first."""
    if options.precision == "fp32":
        yield _Candidate(EVERYTHING, "fp32", "asked for")
        return
    if options.precision == "fp16" or options.weights != "fp16":
        yield _Candidate((), "fp16", "asked for")
        return
    if options.layout == "neural-engine":
        on_progress("read", 1.0, "Looking for parts that fp16 would blur")
        network = NeuralEngineEncoder(reference, _SEARCH_LENGTH, graph).eval()
        sensitive = _sensitive_modules(network, reference, golden, on_progress)
        if sensitive and sensitive != precision_modules(network):
            yield _Candidate(sensitive, "mixed", f"fp16 would blur {', '.join(sensitive)}")
    else:
        sensitive = ()
    if not sensitive:
        yield _Candidate((), "fp16", "every gate is expected to pass")
    yield _Candidate(EVERYTHING, "fp32", "less does not pass every gate as expected")


def _sensitive_modules(
    network: NeuralEngineEncoder, reference: GenaEncoder, golden: Golden, on_progress: OnProgress
) -> tuple[str, ...]:
    """What needs fp32, measured on the first tokens of one window."""
    index = golden.names.index("intergenic")
    n_tokens = min(golden.n_tokens(index), _SEARCH_LENGTH)
    ids = np.full((1, _SEARCH_LENGTH), golden.pad_id, dtype=np.int32)
    ids[0, :n_tokens] = golden.input_ids[index, :n_tokens]
    with torch.no_grad():
        truth = reference(torch.from_numpy(ids[:, :n_tokens].astype(np.int64)))
    return choose_fp32_modules(
        network,
        network_inputs(network, torch.from_numpy(ids)),
        truth,
        n_tokens,
        lambda fraction: on_progress("read", fraction, "Measuring the effect of fp16"),
    )


def _plan(
    checkpoint: Checkpoint, options: BuildOptions, graph: GraphOptions, candidate: _Candidate
) -> PackagePlan:
    config = checkpoint.config
    return PackagePlan(
        lengths=LENGTHS[options.target],
        options=options,
        graph=graph,
        fp32_modules=candidate.fp32_modules,
        description=(
            f"{checkpoint.source}: DNA language model, {config.num_hidden_layers} layers of "
            f"{config.hidden_size}. Token ids in, last hidden states out."
        ),
        metadata={
            "source": checkpoint.source,
            "commit": checkpoint.commit or "",
            **{f"{name}_sha256": digest for name, digest in checkpoint.sha256.items()},
            "precision": candidate.chosen,
        },
    )


def _write_package(
    reference: GenaEncoder, plan: PackagePlan, building: Path, on_progress: OnProgress
) -> None:
    shutil.rmtree(building / PACKAGE, ignore_errors=True)
    build_package(
        reference,
        plan,
        building / PACKAGE,
        lambda fraction: on_progress("convert", fraction, "Converting to Core ML"),
    )
    if plan.options.embedding == "host":
        table = NeuralEngineEncoder(reference, WINDOW, plan.graph).host_table()
        np.save(building / EMBEDDINGS, table.half().numpy())


def _head(checkpoint: Checkpoint) -> Any:
    head = checkpoint.masked_language_model_head()
    if head is None:
        return None
    return head, checkpoint.weights["embeddings.word_embeddings.weight"].float()


def _manifest(
    checkpoint: Checkpoint,
    plan: PackagePlan,
    candidate: _Candidate,
    building: Path,
    fidelity: dict[str, Any],
) -> Manifest:
    return write_manifest(
        building,
        model=checkpoint.source,
        commit=checkpoint.commit,
        checkpoint_sha256=checkpoint.sha256,
        config=checkpoint.config,
        functions={length: function_name(length, plan.lengths) for length in plan.lengths},
        options=plan.options,
        precision={
            "chosen": candidate.chosen,
            "fp32_operations": list(candidate.fp32_modules),
            "reason": candidate.reason,
        },
        fidelity=fidelity,
        versions=_versions(),
    )


def _fidelity(report: Report, graph: GraphOptions) -> dict[str, Any]:
    return {**report.as_dict(), "graph": asdict(graph)}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("gena-coreml", "coremltools", "torch", "numpy", "tokenizers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _shortfall(report: Report) -> str:
    return "; ".join(r.sentence() for r in report.gates if r.verdict != "expected")
