"""A conversion as a plain script does it: the named reference of what ours costs.

    python -m benchmarks.plain_conversion CHECKPOINT PACKAGE

The network as published is traced at its window, converted with coremltools' defaults for macOS 15,
and saved: one length, nothing rearranged, nothing verified.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import coremltools as ct
import numpy as np
import torch

from converter.checkpoint.files import find_checkpoint
from converter.conversion.build import PublishedLayout
from converter.network.loading import load_checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a folder")
    parser.add_argument("package", type=Path)
    args = parser.parse_args(argv)
    reference = load_checkpoint(find_checkpoint(args.checkpoint)).encoder()
    shape = (1, reference.config.window)
    ids = torch.full(shape, reference.config.pad_token_id + 1, dtype=torch.int32)
    with torch.no_grad():
        traced = torch.jit.trace(PublishedLayout(reference).eval(), ids)  # type: ignore[no-untyped-call]
    model = ct.convert(
        traced,
        inputs=[ct.TensorType("input_ids", shape, dtype=np.int32)],
        minimum_deployment_target=ct.target.macOS15,
    )
    model.save(str(args.package))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
