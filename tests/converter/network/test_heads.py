"""Fine-tuned checkpoints: their encoder is served, and what is left out has a name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from converter.checkpoint.files import find_checkpoint
from converter.errors import CheckpointError
from converter.network.heads import LeftOutHead, served_part
from converter.network.loading import load_checkpoint
from tools.seeded_checkpoints import make_checkpoint

BIN = "pytorch_model.bin"


def heads(folder: Path) -> dict[str, LeftOutHead]:
    return {head.name: head for head in load_checkpoint(find_checkpoint(str(folder))).left_out}


def fine_tuned(
    folder: Path, tensors: Mapping[str, Tensor], prefix: str = "bert.", **config: Any
) -> Path:
    """A checkpoint that was trained on, as transformers saves it: no head of pre-training."""
    make_checkpoint(folder, prefix=prefix, **config)
    stored: dict[str, Tensor] = torch.load(folder / BIN, weights_only=True)
    kept = {name: t for name, t in stored.items() if not name.startswith(("cls.", "bert.pooler."))}
    torch.save({**kept, **tensors}, folder / BIN)
    return folder


def linear(rows: int, name: str = "classifier") -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(rows, 64), f"{name}.bias": torch.ones(rows)}


def test_of_a_pre_trained_checkpoint_three_are_left_out(tmp_path: Path) -> None:
    found = heads(make_checkpoint(tmp_path / "c"))
    assert served_part(found.values()) == (
        "the encoder; left out: masked-language-model head, next-sentence head, pooler"
    )


def test_a_bare_encoder_has_nothing_to_leave_out(tmp_path: Path) -> None:
    found = heads(fine_tuned(tmp_path / "c", {}))
    assert found == {}
    assert served_part(()) == "the encoder, which is all it has"


@pytest.mark.parametrize(
    ("rows", "config", "told"),
    [
        (2, {"architectures": ["BertForSequenceClassification"]},
         "sequence classifier of 2 labels"),
        (
            3,
            {
                "architectures": ["BertForTokenClassification"],
                "id2label": {"0": "none", "2": "donor", "1": "acceptor"},
                "problem_type": "multi_label_classification",
            },
            "token classifier of 3 labels (none, acceptor, donor; multi_label_classification)",
        ),
        (919, {"problem_type": "multi_label_classification"},
         "classifier of 919 labels (multi_label_classification)"),
        (5, {"id2label": {str(n): f"T{n}" for n in range(5)}},
         "classifier of 5 labels (T0, T1, T2, T3, ...)"),
        (5313, {"architectures": ["BertForEnformer"]}, "classifier of 5313 labels"),
        (1, {"id2label": {"0": "LABEL_0"}}, "classifier of 1 label"),
        # A config that was left as it was: the file's own count counts.
        (2, {"num_labels": 7, "id2label": {"0": "a"}}, "classifier of 2 labels"),
        (2, {"id2label": ["a", "b"], "problem_type": 3, "architectures": "Bert"},
         "classifier of 2 labels"),
    ],
)  # fmt: skip
def test_a_classifier_is_told_with_its_labels(
    tmp_path: Path, rows: int, config: dict[str, Any], told: str
) -> None:
    folder = fine_tuned(tmp_path / "c", linear(rows), **config)
    assert served_part(heads(folder).values()) == f"the encoder; left out: {told}"


def test_of_a_classifier_of_several_layers_the_config_says_how_many_labels(tmp_path: Path) -> None:
    layers = {**linear(64, "classifier.dense"), **linear(4, "classifier.out_proj")}
    assert heads(fine_tuned(tmp_path / "a", layers, num_labels=4))["classifier"].n_labels == 4
    assert heads(fine_tuned(tmp_path / "b", layers))["classifier"].n_labels is None


def test_labels_of_strangers_are_few_short_and_harmless(tmp_path: Path) -> None:
    names = {str(n): "\x1b[2J" + "x" * 4_000 for n in range(919)}
    (head,) = heads(fine_tuned(tmp_path / "c", linear(919), id2label=names)).values()
    assert (head.n_labels, len(head.labels)) == (919, 20)
    assert all(len(label) < 80 and label.isprintable() for label in head.labels)
    assert len(json.dumps(head.sentence())) < 400


def test_a_head_of_a_labs_own_beside_the_encoder_is_left_out_by_its_name(tmp_path: Path) -> None:
    foreign = {**linear(1, "regression.fc"), "pos_weight.value": torch.ones(5)}
    found = heads(fine_tuned(tmp_path / "c", foreign))
    assert found.keys() == {"regression", "pos_weight"}
    assert "regression, a part that GENA-LM does not have" in served_part(found.values())


def test_without_the_prefix_nobody_can_say_what_a_foreign_tensor_is(tmp_path: Path) -> None:
    folder = fine_tuned(tmp_path / "c", linear(1, "regression"), prefix="")
    with pytest.raises(CheckpointError, match=r"regression\.weight, regression\.bias"):
        heads(folder)


def test_a_file_of_countless_heads_is_refused(tmp_path: Path) -> None:
    many = {f"head{n}.weight": torch.ones(1) for n in range(1000)}
    with pytest.raises(CheckpointError, match="1000 parts beside the encoder: head0, head1, head"):
        heads(fine_tuned(tmp_path / "c", many))
