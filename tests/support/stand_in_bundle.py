"""A bundle that passes every check and holds no network."""

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
    vocab = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGTN"]
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(vocab)}, merges=[], unk_token="[UNK]")
    )
    tokenizer.add_special_tokens(vocab[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / TOKENIZER))
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
