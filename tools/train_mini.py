"""Train gena-mini: from three files of DNA in Debian packages to a GENA-LM checkpoint.

    python -m tools.train_mini --data /path/to/debs

Tokenizer, masked-language-model training and export, in one command. Progress is saved in
`--work`; killed at any time, the same command continues and gives the same weights, bit for bit,
on the same machine and number of threads (batch k depends on the seed and on k only).

What makes two CPU cores enough: matrices are multiplied in bfloat16 (4 to 5 times faster than
float32 where the CPU has AVX512-BF16 or AMX; parameters and optimizer stay in float32), the last
layer is computed at the masked positions only, and hidden matrices are updated by Muon, which
needs fewer tokens than AdamW.

The learning rate warms up, stays, and falls linearly to zero over the last part of `--steps`.
Until that part begins, the same run may be continued with another `--steps`: the result is the
one that this number would have given from the start.

On a machine that others use as well, set OMP_WAIT_POLICY=PASSIVE: threads that spin while they
wait for each other made this run two to three times slower.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from converter.checkpoint.files import SHIPPED_MODELS
from tools.mini.data import find_sources, load_corpus
from tools.mini.export import export
from tools.mini.network import untrained
from tools.mini.recipe import Recipe
from tools.mini.training import Checkpoints, train


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_mini",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], help="files, folders or .deb files with the DNA"
    )
    parser.add_argument("--work", type=Path, default=Path("models/.gena-mini-training"))
    parser.add_argument("--out", type=Path, default=SHIPPED_MODELS["gena-mini"])
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--export", action="store_true", help="only write out the last saved state of the run"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(seed=options.seed)
    sources = find_sources(options.data, options.work / "unpacked")
    if options.export:
        state = Checkpoints(options.work / "checkpoint.pt").load()
        if state is None:
            parser.error(f"{options.work} holds no run")
        model, done = untrained(recipe), int(state["step"])
        model.load_state_dict(state["model"])
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        done = options.steps
        model = train(load_corpus(sources), recipe, done, options.work, device=device)
    provenance = {"steps": done, "sources": sources.sha256()}
    for name, digest in export(model, recipe, provenance, options.work, options.out).items():
        print(f"{digest}  {options.out / name}")


if __name__ == "__main__":
    main()
