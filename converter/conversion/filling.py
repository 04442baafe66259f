"""A bundle from a checkpoint that is loaded: planned, built, verified, its manifest written."""

import logging
import platform
import shutil
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.bundle.manifest import EMBEDDINGS, GOLDEN, PACKAGE, TOKENIZER, write_manifest
from converter.bundle.room import saying_full_disk
from converter.conversion.build import PackagePlan, build_package, re_authored
from converter.conversion.planning import Candidate, Source, candidates
from converter.conversion.progress import OnProgress
from converter.conversion.scaling import checked_scales
from converter.errors import CheckpointError
from converter.fidelity.gates import Verdict
from converter.fidelity.golden import Golden
from converter.fidelity.report import Report
from converter.fidelity.verify import verify_package
from converter.fidelity.windows import make_golden, require_real_tokens
from converter.network.description import read_description
from converter.network.loading import Checkpoint
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from converter.package.interface import PackageInterface
from converter.versions import DISTRIBUTION, installed_versions

log = logging.getLogger(__name__)

# Distributions whose versions stand in the manifest.
_RECORDED = (DISTRIBUTION, "coremltools", "torch", "numpy", "tokenizers")


def disk_space(checkpoint: Checkpoint, *, in_fp32: bool) -> int:
    """Bytes that a build takes at most.

    The package is there twice while it is saved, and coremltools keeps its copy to the end; a third
    time while the weights of all lengths are written.
    """
    values = sum(tensor.numel() for tensor in checkpoint.weights.values())
    package = values * (4 if in_fp32 else 2)
    return int(1.02 * 3 * package) + 8 * 2**20


@dataclass(frozen=True)
class _Planned:
    """What a checkpoint and the options come to, before a package is built.

    Attributes:
        source: the network as published.
    """

    checkpoint: Checkpoint
    options: BuildOptions
    source: Source
    golden: Golden
    scales: Scales


def fill_bundle(
    checkpoint: Checkpoint, options: BuildOptions, building: Path, on_progress: OnProgress
) -> None:
    """Fill a folder with a bundle that passed its gates; its manifest is written last.

    Raises:
        CheckpointError: the checkpoint cannot be converted.
        FidelityError: no package passes the gates.
        BundleError: the bundle cannot be written.
    """
    planned = _plan(checkpoint, options, building)
    on_progress("read", 1.0, "The re-authored network agrees with the reference")
    tries = candidates(planned.source, planned.golden, options, planned.scales, on_progress)
    verdicts: dict[Hashable, Verdict] = {}
    for candidate in tries:
        if not candidate.accepts(verdicts.get(candidate.package, candidate.least)):
            continue  # it was built before
        on_progress("convert", 0.0, candidate.message)
        _write_package(planned, candidate, building, on_progress)
        on_progress("verify", 0.0, "Comparing the saved package with the reference")
        report = _verify(planned, candidate, building, on_progress)
        verdicts[candidate.package] = report.flag
        if candidate.accepts(report.flag):
            break
        log.warning("%s package: %s", candidate.chosen, _shortfall(report))
    # The last candidate stands or falls by its own figures.
    report.require()
    _write_manifest(planned, candidate, report, building)


def _plan(checkpoint: Checkpoint, options: BuildOptions, building: Path) -> _Planned:
    """Write the tokenizer and the golden windows, and measure what the package needs."""
    tokenizer = read_description(checkpoint.files).tokenizer
    require_real_tokens(tokenizer)
    shutil.copyfile(checkpoint.files.tokenizer, building / TOKENIZER)
    reference = checkpoint.encoder()
    golden = make_golden(reference, tokenizer)
    golden.save(building / GOLDEN)
    if not np.isfinite(golden.reference).all():
        raise CheckpointError(
            f"{checkpoint.files.source}: the reference network gives NaN or infinity."
        )
    scales, re_authored = checked_scales(reference, golden, options)
    return _Planned(checkpoint, options, Source(reference, re_authored), golden, scales)


def _write_package(
    planned: _Planned, candidate: Candidate, building: Path, on_progress: OnProgress
) -> None:
    options, scales = planned.options, planned.scales
    config, files = planned.checkpoint.config, planned.checkpoint.files
    plan = PackagePlan(
        scales=scales,
        fp32_modules=candidate.fp32_modules,
        # Where the files came from stands in the manifest: it is no part of what is computed.
        description=(
            f"{planned.checkpoint.family.title}, DNA language model, "
            f"{config.num_hidden_layers} layers of {config.hidden_size}. "
            "Token ids in, last hidden states out."
        ),
        metadata={
            **{f"{name}_sha256": digest for name, digest in files.sha256.items()},
            "precision": candidate.chosen,
        },
    )
    shutil.rmtree(building / PACKAGE, ignore_errors=True)
    needed = disk_space(planned.checkpoint, in_fp32=candidate.chosen != "fp16")
    with saying_full_disk(building, needed):
        build_package(
            candidate.source.network,
            options,
            plan,
            building / PACKAGE,
            progress=lambda fraction: on_progress("convert", fraction, "Converting to Core ML"),
        )
    if options.embedding == "host":
        table = re_authored(candidate.source.network, config.window, options, scales).host_table()
        np.save(building / EMBEDDINGS, table.half().numpy())


def _verify(
    planned: _Planned, candidate: Candidate, building: Path, on_progress: OnProgress
) -> Report:
    config, options, table = planned.checkpoint.config, planned.options, None
    if options.embedding == "host":
        table = np.load(building / EMBEDDINGS)
    return verify_package(
        building / PACKAGE,
        PackageInterface(config, options.functions(config.window), table),
        planned.golden,
        compressed=options.compressed,
        arranged=options.layout != "published",
        re_authored=candidate.source.re_authored,
        head=planned.checkpoint.masked_language_model_head(),
        progress=lambda fraction: on_progress("verify", fraction, "Comparing the saved package"),
    )


def _write_manifest(
    planned: _Planned, candidate: Candidate, report: Report, building: Path
) -> None:
    options, files = planned.options, planned.checkpoint.files
    config = planned.checkpoint.config
    graph = {
        "embedding": options.embedding,
        "ffn_chunks": options.ffn_chunks,
        "residual_scale_log2": planned.scales.residual_log2,
        "value_scale_log2": planned.scales.value_log2,
        "gate_scale_log2": planned.scales.gate_log2,
    }
    write_manifest(
        building,
        model=files.source,
        commit=files.commit,
        checkpoint_sha256=files.sha256,
        config=config,
        left_out=planned.checkpoint.left_out,
        functions=options.functions(config.window),
        options=options,
        precision=candidate.as_dict(),
        fidelity={**report.as_dict(), "graph": graph},
        versions={"python": platform.python_version(), **installed_versions(_RECORDED)},
    )


def _shortfall(report: Report) -> str:
    return "; ".join(r.sentence() for r in report.gates if r.verdict != "expected")
