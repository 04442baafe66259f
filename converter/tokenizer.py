"""A DNA string -> clean letters -> token ids with base-pair offsets. No torch in here.

What counts as DNA:

- White space is removed, wherever it is: Unicode's, and the zero-width space and byte order mark
  that come along with text copied from web pages and Windows files.
- Lower case (soft-masked) letters are read as upper case, U is read as T.
- The IUPAC letters R Y S W K M B D H V N are kept. Where the vocabulary has no token for one,
  it becomes `[UNK]`, one token a letter, and is counted.
- Anything else is an error that names the letter and its position, gaps (`-`, `.`) and stops
  (`*`) included: a gap is not a base, and `-` means something else to some tokenizers (the t2t
  one reads ten or more N as one `-`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import GenaError, TokenizerError
from converter.panics import panics_as_errors
from converter.tokenizer_file import AMBIGUOUS, LETTERS, SPECIAL_TOKENS, read_tokenizer

# A batch is one sequence here: threads would gain nothing, and the library warns of them when a
# process is started afterwards.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# [CLS] and [SEP].
SPECIALS = 2

# Letters that are encoded at a time, where they can be parted: the library takes 280 bytes a token
# while it works, and N is a token a letter.
_PIECE = 2**18

_KEPT = LETTERS + LETTERS.lower()
_INVISIBLE = "\u200b\ufeff"
_SPACE = rf"\s{_INVISIBLE}"
_SPACES = re.compile(f"[{_SPACE}]+")
_FOREIGN = re.compile(f"[^{_KEPT}{_SPACE}]")

_ASCII_SPACE = bytes(c for c in range(128) if chr(c).isspace())
_NOT_LOWER = bytes(c for c in range(256) if chr(c) not in LETTERS.lower())
_NOT_URACIL = bytes(c for c in range(256) if chr(c) not in "Uu")
_NOT_AMBIGUOUS = bytes(c for c in range(256) if chr(c) not in AMBIGUOUS)
# Every byte to the letter it is read as; foreign ones to 0.
_FOLD = bytes(
    ord("T") if chr(c) in "Uu" else ord(chr(c).upper()) if chr(c) in _KEPT else 0
    for c in range(256)
)

_GAP = "It is a gap: remove gaps first: sed '/^[^>]/s/[-.]//g' aligned.fa > genes.fa"
_HINTS = {
    "-": _GAP,
    ".": _GAP,
    "*": "It is a stop of a protein translation; DNA is expected.",
    ">": "It begins a FASTA header; only the sequence is expected here.",
    "@": "It begins a FASTQ header; only the sequence is expected here.",
    "&": "curl puts it between what several -d or --data-binary give: make one file of them.",
    "_": "It occurs in names, such as accession numbers: the sequence itself is expected.",
    "X": "Unknown bases are written N.",
    "I": "It is inosine, which the model does not know: write N; or this is a protein.",
    **dict.fromkeys("EFLPQZJO", "It occurs in proteins; DNA is expected."),
    **dict.fromkeys("0123456789", "Numbers of positions go first: tr -d '0-9 ' < sequence.txt"),
}


class SequenceError(GenaError):
    """A letter that is no part of a DNA sequence.

    Attributes:
        letter: the offending character.
        position: where it is, counted from 1 over every character of the submitted text, white
            space included.
    """

    code = "sequence.invalid_letter"

    def __init__(self, letter: str, position: int) -> None:
        hint = _HINTS.get(letter.upper(), "Allowed are A C G T U and the IUPAC letters, R to N.")
        super().__init__(f"{letter!a} at position {position} is not a DNA letter. {hint}")
        self.letter = letter
        self.position = position


@dataclass(frozen=True)
class CleanSequence:
    """DNA as the tokenizer takes it, and what was changed to get there.

    Attributes:
        sequence: upper-case A C G T and IUPAC letters; may be empty.
        submitted: the text as it came.
        n_white_space: characters removed.
        n_lower_case: letters that were lower case.
        n_uracil: U read as T.
        n_ambiguous: letters of `sequence` other than A C G T.
    """

    sequence: str
    submitted: str
    n_white_space: int
    n_lower_case: int
    n_uracil: int
    n_ambiguous: int

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """(len(sequence),) 0-based index in the submitted text of every letter."""
        code_points = np.frombuffer(self.submitted.encode("utf-32-le"), np.uint32)
        # What is left are letters, all below 128, and white space; no letter is a white space.
        is_letter = np.zeros(128, dtype=bool)
        is_letter[[ord(c) for c in _KEPT]] = True
        return np.flatnonzero(is_letter[np.minimum(code_points, 127)])


def clean(text: str) -> CleanSequence:
    """Fold what a person submits into clean DNA; a few milliseconds for a megabase.

    Raises:
        SequenceError: a letter is not DNA.
    """
    # Other alphabets' white space goes first, so that the rest works on bytes.
    spaced = text if text.isascii() else _SPACES.sub("", text)
    try:
        letters = spaced.encode("ascii").translate(None, delete=_ASCII_SPACE)
    except UnicodeEncodeError:
        raise _first_foreign(text) from None
    folded = letters.translate(_FOLD)
    if b"\0" in folded:
        raise _first_foreign(text)
    return CleanSequence(
        sequence=folded.decode("ascii"),
        submitted=text,
        n_white_space=len(text) - len(folded),
        n_lower_case=len(letters.translate(None, delete=_NOT_LOWER)),
        n_uracil=len(letters.translate(None, delete=_NOT_URACIL)),
        n_ambiguous=len(folded.translate(None, delete=_NOT_AMBIGUOUS)),
    )


def _first_foreign(text: str) -> SequenceError:
    found = _FOREIGN.search(text)
    assert found is not None
    return SequenceError(found.group(), found.start() + 1)


@dataclass(frozen=True)
class Encoding:
    """Tokens of one clean sequence, without specials.

    Attributes:
        ids: (n,) int32.
        offsets: (n, 2) int64, bases of each token in the clean sequence, 0-based, half-open.
            Tokens follow each other without a gap.
        n_unknown: how many ids are `[UNK]`.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    n_unknown: int


class DnaTokenizer:
    """The tokenizer of a GENA-LM checkpoint, and the windows that its model reads.

    Args:
        tokenizer_file: a published `tokenizer.json`.
        content: of the file, where it was read already.
        model_max_length: tokens of a window, both specials included.

    Raises:
        TokenizerError: the file cannot be read, or is no GENA-LM tokenizer.
    """

    def __init__(
        self,
        tokenizer_file: Path,
        content: bytes | None = None,
        *,
        model_max_length: int = 512,
    ) -> None:
        self.model_max_length = model_max_length
        self._tokenizer = read_tokenizer(tokenizer_file, content)
        self.unk_id, self.cls_id, self.sep_id, self.pad_id, self.mask_id = SPECIAL_TOKENS.values()
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def max_own_tokens(self) -> int:
        """Of a sequence's own tokens, as many as a window holds between [CLS] and [SEP]."""
        return self.model_max_length - SPECIALS

    def encode(self, sequence: str) -> Encoding:
        """Tokenize clean DNA (see `clean`) of any length, about a second for a megabase.

        Raises:
            TokenizerError: the tokenizer fails, or drops letters.
        """
        start, ids, ends = 0, [], []
        for piece in self._pieces(sequence):
            piece_ids, piece_ends = self._encode_piece(piece)
            ids.append(piece_ids)
            ends.append(piece_ends + start)
            start += len(piece)
        return self._encoding(sequence, np.concatenate(ids), np.concatenate(ends))

    def _encode_piece(self, piece: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(n,) ids, and (n,) letters of the piece after which they end."""
        try:
            with panics_as_errors():
                # Unlike `encode`, this lets other threads run meanwhile: a megabase takes a second.
                encoding = self._tokenizer.encode_batch([piece], add_special_tokens=False)[0]
        except Exception as error:
            # The library's words may hold the sequence, and are left out of what is logged.
            raise TokenizerError("The tokenizer failed on a sequence.") from error
        ids = np.array(encoding.ids, dtype=np.int32)
        return ids, np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 1]

    def _encoding(self, sequence: str, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> Encoding:
        # Where a normalizer replaces a run by one character, the library gives only the run's
        # last base: the token begins where the one before it ends.
        offsets = np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1)
        if (ends[-1] if len(ends) else 0) != len(sequence):
            raise TokenizerError("The tokenizer drops letters at the end of a sequence.")
        return Encoding(ids, offsets, int(np.count_nonzero(ids == self.unk_id)))

    def _pieces(self, sequence: str) -> Iterator[str]:
        """The sequence, parted only where tokens end whatever stands around.

        A long sequence of few tokens, which bases are, is one piece: there is nowhere to part it.
        """
        start = 0
        while len(sequence) - start > _PIECE and self._border is not None:
            found = self._border.search(sequence, start + _PIECE - 1)
            if found is None:
                break
            yield sequence[start : found.start() + 1]
            start = found.start() + 1
        yield sequence[start:]

    @cached_property
    def _border(self) -> re.Pattern[str] | None:
        """Finds a letter that no token holds beside the one after it; None where there may be none.

        No merge of byte-pair encoding joins the two. What is replaced or split off before it may
        join more.
        """
        if self._tokenizer.normalizer is not None or self._tokenizer.pre_tokenizer is not None:
            return None
        vocabulary = [text for text in self._tokenizer.get_vocab() if text not in SPECIAL_TOKENS]
        joined = {text[at : at + 2] for text in vocabulary for at in range(len(text) - 1)}
        letters = [letter for letter in LETTERS if letter != "U"]  # it is read as T
        apart = [(x, y) for x in letters for y in letters if x + y not in joined]
        return re.compile("|".join(f"{x}(?={y})" for x, y in apart)) if apart else None

    @cached_property
    def letters(self) -> str:
        """Those of DNA that have a token, in IUPAC's order; each other one is an `[UNK]`."""
        letters = (letter for letter in LETTERS if letter != "U")  # it is read as T
        return "".join(letter for letter in letters if not self.encode(letter).n_unknown)

    def window(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """`[CLS]` + ids + `[SEP]`; at most `max_own_tokens` ids.

        Raises:
            ValueError: too many ids.
        """
        if len(ids) > self.max_own_tokens:
            raise ValueError(
                f"{len(ids)} tokens; a window holds {self.max_own_tokens} and two specials"
            )
        return np.concatenate([[self.cls_id], ids, [self.sep_id]]).astype(np.int32)

    def pad(self, ids: NDArray[np.int32], length: int) -> NDArray[np.int32]:
        """(length,) int32: ids, then `[PAD]`.

        Raises:
            ValueError: there are more ids than that.
        """
        if len(ids) > length:
            raise ValueError(f"{len(ids)} ids do not fit in {length}")
        return np.pad(ids.astype(np.int32), (0, length - len(ids)), constant_values=self.pad_id)

    def tokens(self, ids: NDArray[np.int32]) -> list[str]:
        """The text of every id; `[UNK]`, `[CLS]`, ... for specials.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        texts = []
        for id_ in ids.tolist():
            text = self._tokenizer.id_to_token(id_)
            if text is None:
                raise ValueError(f"{id_} is not an id of the vocabulary")
            texts.append(text)
        return texts
