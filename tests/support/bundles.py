"""Small bundles: with a package of a few bytes where files only move, and with a real one."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from converter.bundle.manifest import (
    EMBEDDINGS,
    GOLDEN,
    PACKAGE,
    TOKENIZER,
    Manifest,
    write_manifest,
)
from converter.bundle.opening import Bundle, open_bundle
from converter.bundle.store import build_lock, building_folder, publish
from converter.fidelity.golden import Golden
from converter.network.gena_bert.config import GenaBertConfig
from converter.options import BuildOptions, function_names

CONFIG = GenaBertConfig(
    vocab_size=400,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=128,
    max_position_embeddings=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=3,
    pre_layer_norm=True,
    last_layer_norm=False,
)

# What a manifest says where nothing needed anything else.
ALL_FP16 = {
    "chosen": "fp16",
    "reason": "expected",
    "cures": [],
    "fp32_modules": [],
    "limited_by": [],
}
# What it says of a package that nothing was measured of.
UNMEASURED = {
    "flag": "expected",
    "gates": [],
    "engine": {
        "operations": 0,
        "operations_off": 0,
        "encoder_operations_off": 0,
        "floating_point_operations": 0,
        "floating_point_operations_off": 0,
        "segments": 0,
    },
}


def fill(
    folder: Path,
    content: str = "weights",
    *,
    without: str = "",
    package: Path | None = None,
    precision: Mapping[str, Any] = ALL_FP16,
    window: int = 512,
) -> Manifest:
    """Write the files of a bundle, but for one, and its manifest.

    Args:
        package: what its package is a copy of; else it is a file with the content.
        window: tokens that its model reads at a time.
    """
    if package is not None:
        shutil.copytree(package, folder / PACKAGE)
    else:
        weights = folder / PACKAGE / "Data" / "weight.bin"
        weights.parent.mkdir(parents=True)
        weights.write_text(content)
    (folder / TOKENIZER).write_text("{}")
    input_ids = np.full((1, window), 3, np.int32)
    Golden(("padding",), input_ids, np.zeros((1, window, 64), np.float32), 3).save(folder / GOLDEN)
    if without == PACKAGE:
        shutil.rmtree(folder / PACKAGE)
    elif without:
        (folder / without).unlink()
    return write_manifest(
        folder,
        model="lab/model",
        commit=None,
        checkpoint_sha256={"config": "0" * 64, "weights": "1" * 64, "tokenizer": "2" * 64},
        config=replace(CONFIG, max_position_embeddings=window),
        left_out=(),
        functions={window: f"length_{window}", 128: "length_128"},
        options=BuildOptions(),
        precision=precision,
        fidelity={"fp16_db": 71.25, **UNMEASURED},
        versions={"coremltools": "9.0"},
    )


def build(destination: Path, content: str = "weights") -> str:
    """Fill and publish a bundle; its fingerprint."""
    with build_lock(destination), building_folder(destination) as folder:
        manifest = fill(folder, content)
        publish(folder, destination)
    return manifest.fingerprint


def put_in_place(built: Path, destination: Path) -> None:
    """Publish a copy of a bundle, as a conversion does."""
    with build_lock(destination), building_folder(destination) as folder:
        shutil.copytree(built, folder, dirs_exist_ok=True)
        publish(folder, destination)


def leftovers(destination: Path) -> set[str]:
    """What lies beside a bundle and its lock."""
    return {p.name for p in destination.parent.iterdir()} - {
        destination.name,
        f".{destination.name}.lock",
    }


def flip_in_place(path: Path) -> None:
    """Change a bit of every byte in the file itself: whoever maps it sees that."""
    with path.open("r+b") as file:
        content = np.frombuffer(file.read(), np.uint8)
        file.seek(0)
        file.write((content ^ 1).tobytes())


def build_small(
    destination: Path,
    *,
    embedding: Literal["graph", "host"] = "graph",
    seed: int = 0,
    tokenizer_file: Path | None = None,
    lengths: tuple[int, ...] = (128, 512),
) -> Bundle:
    """A bundle with a real two-layer package for some lengths in tokens, seeded weights."""
    from tools.seeded_checkpoints import make_checkpoint

    checkpoint = make_checkpoint(
        destination.with_name(destination.name + "-checkpoint"),
        seed=seed,
        tokenizer_file=tokenizer_file,
        max_position_embeddings=lengths[-1],
    )
    options = BuildOptions(embedding=embedding)
    golden = _golden((60, lengths[-1], 300))
    _build_real(destination, "lab/small", str(checkpoint), options, lengths, golden)
    return open_bundle(destination)


def build_mini(destination: Path) -> Path:
    """gena-mini for 512 tokens, without the gates, which have their own tests."""
    _build_real(destination, "gena-mini", "gena-mini", BuildOptions(), (512,), _golden((60,)))
    return destination


def _golden(n_tokens: Sequence[int]) -> NDArray[np.int32]:
    """(len(n_tokens), 512 or the most of them) windows of so many tokens, padded."""
    windows = np.full((len(n_tokens), max(512, *n_tokens)), 3, np.int32)
    generator = np.random.default_rng(0)
    for window, n in zip(windows, n_tokens, strict=True):
        window[:n] = [1, *generator.integers(5, 400, n - 2), 2]
    return windows


def _build_real(
    folder: Path,
    model: str,
    source: str,
    options: BuildOptions,
    lengths: tuple[int, ...],
    golden: NDArray[np.int32],
) -> None:
    """Convert the checkpoint `source`, without gates, into a bundle of the name `model`."""
    import torch

    from converter.checkpoint.files import find_checkpoint
    from converter.conversion.build import PackagePlan, build_package, re_authored
    from converter.network.loading import load_checkpoint
    from converter.network.neural_engine import Scales

    checkpoint = load_checkpoint(find_checkpoint(source))
    reference = checkpoint.encoder()
    folder.mkdir(parents=True)
    build_package(reference, options, PackagePlan(), folder / PACKAGE, lengths=lengths)
    shutil.copy(checkpoint.files.tokenizer, folder / TOKENIZER)
    if options.embedding == "host":
        table = re_authored(reference, lengths[-1], options, Scales()).host_table()
        np.save(folder / EMBEDDINGS, table.detach().numpy().astype(np.float16))
    with torch.no_grad():
        features = reference(torch.from_numpy(golden).long()).numpy()
    names = tuple(f"window {number}" for number in range(len(golden)))
    Golden(names, golden, features, pad_id=3).save(folder / GOLDEN)
    write_manifest(
        folder,
        model=model,
        commit=None,
        checkpoint_sha256=checkpoint.files.sha256,
        config=checkpoint.config,
        left_out=checkpoint.left_out,
        functions=function_names(lengths),
        options=options,
        precision=ALL_FP16,
        fidelity=UNMEASURED,
        versions={},
    )
