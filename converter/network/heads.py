"""What a checkpoint holds beside its encoder: heads, which are left out and told.

A head computes something from the features (labels, masked tokens). The package ends with the
features, so whoever fetched a fine-tuned checkpoint for its labels has to hear of it. No torch in
here.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.errors import brief

_CLASSIFIERS = {"ForSequenceClassification": "sequence", "ForTokenClassification": "token"}
_NUMBERED_LABEL = re.compile(r"LABEL_\d+", re.ASCII)
# DeepSEA has 919 labels; a few say what a head is about.
_MOST_LABELS, _MOST_SHOWN, _LONGEST = 20, 4, 60


@dataclass(frozen=True)
class LeftOutHead:
    """A part of a checkpoint that is not served.

    Attributes:
        name: how the names of its tensors begin, such as "classifier".
        description: what it is, in words.
        n_labels: values that a classifier gives; None where the checkpoint does not say.
        labels: their names, the first 20; none where they have none but numbers.
        problem_type: as `config.json` has it.
    """

    name: str
    description: str
    n_labels: int | None = None
    labels: tuple[str, ...] = ()
    problem_type: str | None = None

    def sentence(self) -> str:
        """What it is in a few words, for people."""
        if self.n_labels is None:
            return self.description
        more = ", ..." if self.n_labels > _MOST_SHOWN else ""
        facts = [", ".join(self.labels[:_MOST_SHOWN]) + more] if self.labels else []
        facts += [self.problem_type] if self.problem_type else []
        labels = f"{self.description} of {self.n_labels} label{'s' * (self.n_labels != 1)}"
        return f"{labels} ({'; '.join(facts)})" if facts else labels


def served_part(heads: Iterable[LeftOutHead]) -> str:
    """Which part of a checkpoint is served, and which is not, for people."""
    left_out = ", ".join(head.sentence() for head in heads)
    return f"the encoder; left out: {left_out}" if left_out else "the encoder, which is all it has"


@dataclass(frozen=True)
class HeadNames:
    """What a family's files hold beside its encoder, by names without the encoder's prefix.

    Attributes:
        parts: how names of known heads begin, with what they are.
        open: a first part of names whose second one is free, as BERT's "cls"; "" for none.
        buffers: of the encoder, that hold no weights.
        of_encoders: parts of names that make a head look like an encoder of its own: nobody could
            say which one is meant.
    """

    parts: Mapping[str, str]
    open: str
    buffers: tuple[str, ...]
    of_encoders: frozenset[str]

    def is_beside_the_encoder(self, name: str, *, outside: bool) -> bool:
        """Whether a tensor that the encoder lacks may be in a file: of a head, or a known buffer.

        Args:
            name: without the encoder's prefix.
            outside: the encoder's names begin with the prefix, and this one does not.
        """
        if name in self.buffers or self._head_of(name) is not None:
            return True
        parts = name.split(".")
        return (
            outside and len(parts) > 1 and all(parts) and not self.of_encoders.intersection(parts)
        )

    def find(
        self,
        shapes: Mapping[str, Sequence[int]],
        encoder: Collection[str],
        config: Mapping[str, Any],
    ) -> tuple[LeftOutHead, ...]:
        """The heads among the tensors of a file, each once, in alphabetical order.

        Args:
            shapes: of every tensor, by its name without the encoder's prefix.
            encoder: names that belong to the encoder.
            config: the parsed `config.json`.
        """
        others = shapes.keys() - set(encoder) - set(self.buffers)
        names = {self._head_of(name) or name.partition(".")[0] for name in others}
        return tuple(self._head(name, shapes, config) for name in sorted(names))

    def _head_of(self, name: str) -> str | None:
        parts = name.split(".")
        if self.open and parts[0] == self.open and len(parts) > 1 and parts[1]:
            return ".".join(parts[:2])
        return parts[0] if parts[0] in self.parts and len(parts) > 1 else None

    def _head(
        self, name: str, shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]
    ) -> LeftOutHead:
        unknown = f"{brief(name, _LONGEST)}, a part that GENA-LM does not have"
        description = self.parts.get(name, unknown)
        if name != "classifier":
            return LeftOutHead(brief(name, _LONGEST), description)
        labels = _labels(config)
        weight = shapes.get("classifier.weight")
        # The file knows how many there are; a config may be that of the checkpoint before.
        n_labels = weight[0] if weight else _count(config.get("num_labels")) or len(labels) or None
        named = labels if len(labels) == n_labels else ()
        kind = _kind(config)
        return LeftOutHead(
            name,
            f"{kind} {description}" if kind else description,
            n_labels,
            () if all(map(_NUMBERED_LABEL.fullmatch, named)) else named[:_MOST_LABELS],
            _text(config.get("problem_type")),
        )


def _kind(config: Mapping[str, Any]) -> str | None:
    architectures: Any = config.get("architectures")
    names = architectures if isinstance(architectures, list) else ()
    kinds = (
        kind
        for ending, kind in _CLASSIFIERS.items()
        if any(isinstance(name, str) and name.endswith(ending) for name in names)
    )
    return next(kinds, None)


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of labels in their order; none where the config has not one for each number."""
    names: Any = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    in_order = [_text(names.get(str(number))) for number in range(len(names))]
    return tuple(name for name in in_order if name is not None) if all(in_order) else ()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value is not True and 0 < value < 2**24 else None


def _text(value: Any) -> str | None:
    return brief(value, _LONGEST) if isinstance(value, str) and value.strip() else None
