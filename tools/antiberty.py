"""AntiBERTy's encoder as a checkpoint: real trained weights of this geometry, from PyPI.

A protein model (8 layers of 512; MIT licence, J. Ruffolo) whose 25 word rows are tiled to a DNA
vocabulary: what it says about DNA means nothing, but its weights are those of a trained BERT, with
their outliers. The wheel is fetched once and kept in the user's cache.
"""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

from converter.digests import sha256_file
from converter.user_cache import user_cache_folder
from tools.seeded_checkpoints import make_tokenizer

_WHEEL = "antiberty-0.1.3-py3-none-any.whl"
_SHA256 = "30d910992b190013871bac49cdc032e01a19339f7d2b958ab99b0eb44638352a"
_MODEL = "antiberty/trained_models/AntiBERTy_md_smooth/"
_FETCH_SECONDS = 120
_WORDS = "bert.embeddings.word_embeddings.weight"
_VOCABULARY, _PAD = 32_000, 3


class WheelUnavailableError(Exception):
    """The wheel is not in the cache and cannot be fetched; says why."""


def antiberty_checkpoint(folder: Path, tokenizer_file: Path | None = None) -> Path:
    """Write `folder`, a checkpoint as the hub would hold it.

    Args:
        tokenizer_file: a tokenizer of at most 32,000 tokens; a small one where it is not given.

    Raises:
        WheelUnavailableError: there is no wheel to take it from.
    """
    with zipfile.ZipFile(_wheel()) as wheel:
        config = json.loads(wheel.read(f"{_MODEL}config.json"))
        weights = io.BytesIO(wheel.read(f"{_MODEL}pytorch_model.bin"))
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    rows = tensors[_WORDS]
    tensors[_WORDS] = rows.repeat(-(-_VOCABULARY // len(rows)), 1)[:_VOCABULARY]
    folder.mkdir(parents=True, exist_ok=True)
    config |= {"vocab_size": _VOCABULARY, "pad_token_id": _PAD}
    (folder / "config.json").write_text(json.dumps(config))
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    torch.save(encoder, folder / "pytorch_model.bin")
    if tokenizer_file is None:
        make_tokenizer(4000).save(str(folder / "tokenizer.json"))
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    return folder


def _wheel() -> Path:
    folder = user_cache_folder() / "wheels"
    wheel = folder / _WHEEL
    if not wheel.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(folder), "antiberty==0.1.3"]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_FETCH_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise WheelUnavailableError(
                f"antiberty was not fetched in {_FETCH_SECONDS} s"
            ) from error
        except subprocess.CalledProcessError as error:
            why = error.stderr.strip().splitlines()[-1:] or ["pip failed"]
            raise WheelUnavailableError(f"antiberty cannot be fetched: {why[0]}") from error
    if sha256_file(wheel) != _SHA256:
        raise WheelUnavailableError(f"{wheel} is not the wheel that was published")
    return wheel
