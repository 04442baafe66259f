"""A record's tokens, cut into windows that the model can take.

A window is at most `MAX_OWN_TOKENS` tokens, wrapped in its own [CLS] and [SEP]. Neighbours may
overlap. Every token belongs to exactly one window, the one in which it has more context: an
overlap is shared out at its middle. So answers that merge windows count each token once.
"""

from dataclasses import dataclass

from converter.tokenizer import MAX_OWN_TOKENS, WINDOW

# [CLS] and [SEP].
SPECIALS = WINDOW - MAX_OWN_TOKENS


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


def count_windows(own_tokens: int, overlap: int) -> int:
    """How many windows `plan_windows` makes."""
    if own_tokens <= MAX_OWN_TOKENS:
        return 1
    return 1 + -(-(own_tokens - MAX_OWN_TOKENS) // (MAX_OWN_TOKENS - overlap))


def count_rows(own_tokens: int, overlap: int) -> int:
    """Rows that the model computes for all windows, specials included."""
    windows = count_windows(own_tokens, overlap)
    return own_tokens + (windows - 1) * overlap + windows * SPECIALS


def plan_windows(own_tokens: int, overlap: int) -> tuple[Window, ...]:
    """Cut a sequence's own tokens (at least 1, specials not counted) into windows.

    Args:
        overlap: tokens that a window shares with the next, 0 to `MAX_OWN_TOKENS` - 1.
    """
    count = count_windows(own_tokens, overlap)
    step = MAX_OWN_TOKENS - overlap
    starts = [index * step for index in range(count)]
    ends = [min(start + MAX_OWN_TOKENS, own_tokens) for start in starts]
    # The middle of what two neighbours share; their common border where they share nothing.
    borders = [(start + end + 1) // 2 for start, end in zip(starts[1:], ends, strict=False)]
    return tuple(
        Window(index, *window)
        for index, window in enumerate(
            zip(starts, ends, [0, *borders], [*borders, own_tokens], strict=True)
        )
    )
