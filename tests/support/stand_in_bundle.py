"""A bundle that passes every check and holds no network."""

import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer, models, processors

from converter.bundle.manifest import GOLDEN, PACKAGE, TOKENIZER, write_manifest
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.heads import LeftOutHead
from converter.options import BuildOptions, function_names
from tests.support.bundles import ALL_FP16, UNMEASURED

_CONFIG = {
    "model_type": "bert",
    "vocab_size": 400,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "type_vocab_size": 2,
    "pad_token_id": 3,
    "pre_layer_norm": True,
}


def describe(folder: Path) -> Path:
    """Write a checkpoint whose weights nobody reads. Its tokenizer knows a token more."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_CONFIG | {"max_position_embeddings": 512}))
    _tokenizer("GA").save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_text("")
    return folder


def make_bundle(
    folder: Path,
    model: str = "stand-in",
    weights: str = "w",
    left_out: tuple[LeftOutHead, ...] = (),
    lengths: tuple[int, ...] = (128, 512),
) -> Path:
    """Write a bundle for `stand_in_model`, at once where one was before.

    Args:
        weights: others are another fingerprint.
        lengths: of the package in tokens; the last one is the model's window.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / PACKAGE).mkdir(parents=True)
    (folder / PACKAGE / "Manifest.json").write_text("{}")
    (folder / GOLDEN).write_bytes(b"")
    _tokenizer().save(str(folder / TOKENIZER))
    write_manifest(
        folder,
        model=model,
        commit=None,
        checkpoint_sha256={"config": "c", "weights": weights, "tokenizer": "t"},
        config=GenaBertConfig.from_dict(_CONFIG | {"max_position_embeddings": lengths[-1]}),
        left_out=left_out,
        functions=function_names(lengths),
        options=BuildOptions(),
        precision=ALL_FP16,
        fidelity=UNMEASURED,
        versions={},
    )
    return folder


def _tokenizer(*pairs: str) -> Tokenizer:
    """Of letters, and of these pairs of them."""
    vocab = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGTN", *pairs]
    merges = [(pair[0], pair[1]) for pair in pairs]
    numbered = {token: number for number, token in enumerate(vocab)}
    tokenizer = Tokenizer(models.BPE(vocab=numbered, merges=merges, unk_token="[UNK]"))
    tokenizer.add_special_tokens(vocab[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer
