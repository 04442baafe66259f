"""A record's tokens, cut into windows that the model can take.

A window is at most `max_own_tokens` tokens (the model's: `DnaTokenizer.max_own_tokens`), wrapped in
its own [CLS] and [SEP]. Neighbours may overlap. Every token belongs to exactly one window, the one
in which it has more context: an overlap is shared out at its middle. So answers that merge windows
count each token once.
"""

from dataclasses import dataclass

from converter.tokenizer import SPECIALS


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a record's tokens; indices count tokens without specials, half-open.

    Attributes:
        first, end: the tokens that the model sees.
        own_first, own_end: the tokens that this window answers for.
    """

    index: int
    first: int
    end: int
    own_first: int
    own_end: int

    @property
    def n_tokens(self) -> int:
        """Rows that the model computes: the tokens and the two specials."""
        return self.end - self.first + SPECIALS


def count_windows(own_tokens: int, overlap: int, max_own_tokens: int) -> int:
    """How many windows `plan_windows` makes."""
    if own_tokens <= max_own_tokens:
        return 1
    return 1 + -(-(own_tokens - max_own_tokens) // (max_own_tokens - overlap))


def count_rows(own_tokens: int, overlap: int, max_own_tokens: int) -> int:
    """Rows that the model computes for all windows, specials included."""
    windows = count_windows(own_tokens, overlap, max_own_tokens)
    return own_tokens + (windows - 1) * overlap + windows * SPECIALS


def plan_windows(own_tokens: int, overlap: int, max_own_tokens: int) -> tuple[Window, ...]:
    """Cut a sequence's own tokens (at least 1, specials not counted) into windows.

    Args:
        overlap: tokens that a window shares with the next, 0 to `max_own_tokens` - 1.
        max_own_tokens: of a window.
    """
    count = count_windows(own_tokens, overlap, max_own_tokens)
    step = max_own_tokens - overlap
    starts = [index * step for index in range(count)]
    ends = [min(start + max_own_tokens, own_tokens) for start in starts]
    # The middle of what two neighbours share; their common border where they share nothing.
    borders = [(start + end + 1) // 2 for start, end in zip(starts[1:], ends, strict=False)]
    return tuple(
        Window(index, *window)
        for index, window in enumerate(
            zip(starts, ends, [0, *borders], [*borders, own_tokens], strict=True)
        )
    )
