"""A record's tokens, cut into windows that the model can take.

A window is at most 510 tokens, wrapped in its own [CLS] and [SEP]. Neighbours may overlap. Every
token belongs to exactly one window, the one in which it has more context: an overlap is shared
out at its middle. So answers that merge windows count each token once.
"""

from dataclasses import dataclass

from converter.tokenizer import MAX_TOKENS

SPECIALS = 2


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
    def rows(self) -> int:
        """Rows that the model computes: the tokens and the two specials."""
        return self.end - self.first + SPECIALS


def count_windows(n_tokens: int, overlap: int) -> int:
    """How many windows `plan_windows` makes."""
    if n_tokens <= MAX_TOKENS:
        return 1
    return 1 + -(-(n_tokens - MAX_TOKENS) // (MAX_TOKENS - overlap))


def count_rows(n_tokens: int, overlap: int) -> int:
    """Rows that the model computes for all windows, specials included."""
    windows = count_windows(n_tokens, overlap)
    return n_tokens + (windows - 1) * overlap + windows * SPECIALS


def plan_windows(n_tokens: int, overlap: int) -> tuple[Window, ...]:
    """Cut `n_tokens` (at least 1) into windows.

    Args:
        overlap: tokens that a window shares with the next, 0 to 509.
    """
    count = count_windows(n_tokens, overlap)
    step = MAX_TOKENS - overlap
    starts = [index * step for index in range(count)]
    ends = [min(start + MAX_TOKENS, n_tokens) for start in starts]
    # The middle of what two neighbours share; their common border where they share nothing.
    borders = [(start + end + 1) // 2 for start, end in zip(starts[1:], ends, strict=False)]
    return tuple(
        Window(index, *window)
        for index, window in enumerate(
            zip(starts, ends, [0, *borders], [*borders, n_tokens], strict=True)
        )
    )
